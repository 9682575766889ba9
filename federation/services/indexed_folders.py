"""Folders that are indexed, and for whom: those whom an index is for share it, and of a folder an agent has made one at most."""

import hashlib
import uuid
from typing import Any

from sqlalchemy import Text, and_, case, cast, or_, select
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services.visibility import audience
from federation.store import turns
from federation.store.context import context
from federation.store.models.cop import Visibility
from federation.store.models.retrieval import IndexedFolder, IndexRun

# By what LanceDB tells the chunks of one index from those of another.
COLLECTION = case((IndexedFolder.visibility == Visibility.ALL, IndexedFolder.root), else_=cast(IndexedFolder.id, Text))


def find(session: Session, root: str, visibility: str | None, conversation_id: str | None) -> IndexedFolder | None:
    """Return the index of a folder that the caller means, if there is one. Raises as `audience` does."""
    return session.scalars(select(IndexedFolder).where(*_meant(session, root, visibility, conversation_id))).one_or_none()


def take(session: Session, root: str, visibility: str | None, conversation_id: str | None) -> IndexedFolder:
    """Return the same, made if it is new; without a visibility, the one that the caller indexed last, or else that for all.

    For who has the turn of the folder. Raises as `audience` does, and InvalidInput without a visibility where what he indexed last is gone.
    """
    found = find(session, root, visibility, conversation_id)
    if found is None:
        level, name = audience(session, visibility, conversation_id)
        found = IndexedFolder(id=uuid.uuid4(), root=root, visibility=level, audience=name, created_by=context(session).actor)
        session.add(found)
        session.flush()
    return found


def turn(session: Session, root: str) -> None:
    """Have others who index the folder wait until the commit."""
    turns.take(session, f"index:{root}")


def others_of_mine(session: Session, kept: IndexedFolder) -> list[IndexedFolder]:
    """Return what the caller has made of the same folder for others: its last word says who may see it."""
    mine = (IndexedFolder.root == kept.root, IndexedFolder.created_by == context(session).actor, IndexedFolder.id != kept.id)
    return list(session.scalars(select(IndexedFolder).where(*mine)))


def _meant(session: Session, root: str, visibility: str | None, conversation_id: str | None) -> tuple[Any, ...]:
    if visibility is None and conversation_id is None and (last := _last(session, root)) is not None:
        return (IndexedFolder.id == last,)
    level, name = audience(session, visibility, conversation_id)
    return IndexedFolder.root == root, IndexedFolder.visibility == level, IndexedFolder.audience == name


def _last(session: Session, root: str) -> uuid.UUID | None:
    # Also one that another has made: a repetition without a word must not publish what it was shared with.
    runs = select(IndexRun.folder_id).where(IndexRun.root == root, IndexRun.created_by == context(session).actor)
    last = session.scalar(runs.order_by(IndexRun.created_at.desc(), IndexRun.id).limit(1))
    if last is not None and session.get(IndexedFolder, last) is None:
        raise InvalidInput("visibility", None, f"who may find it: what you indexed of {root} before was withdrawn, or is hidden from you now")
    return last


def roots(session: Session) -> list[str]:
    """Return the folders of which the caller may see an index, in order."""
    return list(session.scalars(select(IndexedFolder.root).distinct().order_by(IndexedFolder.root)))


def collections(session: Session, *, root: str | None = None, shared_with: str | None = None, made_for: str | None = None) -> list[str]:
    """Return by what LanceDB knows the indexes that the caller may see, of one folder or of all.

    `shared_with` a conversation: only those that all its members may see; `made_for` one: only those that are for them and for nobody else.
    """
    query = select(COLLECTION).order_by(COLLECTION)
    if root is not None:
        query = query.where(IndexedFolder.root == root)
    if made_for is not None:
        query = query.where(IndexedFolder.visibility == Visibility.MEMBERS, IndexedFolder.audience == made_for)
    if shared_with is not None:
        for_members = and_(IndexedFolder.visibility == Visibility.MEMBERS, IndexedFolder.audience == shared_with)
        query = query.where(or_(IndexedFolder.visibility == Visibility.ALL, for_members))
    return list(session.scalars(query))


def told(folder: IndexedFolder) -> dict[str, Any]:
    """Return what the event log tells of it, which may be read by more than those whom it is for."""
    seen = {"visibility": folder.visibility, "audience": folder.audience, "root_sha256": hashlib.sha256(folder.root.encode()).hexdigest()}
    return seen | ({"root": folder.root} if folder.visibility == Visibility.ALL else {})
