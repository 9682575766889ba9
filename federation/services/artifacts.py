"""Artifacts: files that the members of a conversation share, in versions that nobody changes; what is in them is kept by `store.contents`.

First `admit`, then the content, then `record`: a file without a row does no harm, and a row without a file is never there.
"""

import mimetypes
import re
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound
from federation.services import conversations, limits, tasks
from federation.store import event_log, turns
from federation.store.contents import Stored
from federation.store.context import context
from federation.store.models.artifacts import Artifact, Kind

LONGEST_NAME = 200
WANTED_NAME = f"1 to {LONGEST_NAME} visible characters; with / between parts, none of which is empty, . or .."
_WORD = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
MEDIA_TYPE = f"{_WORD}/{_WORD}"
WANTED_TYPE = "a media type, such as text/markdown or application/pdf"
# What joins the parts of a sign or of a word, as scripts and pictures need it.
_JOINERS = "\u200c\u200d"
# Python's own table alone: that of the machine would give another answer on the next one.
_TYPES = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".gz": "application/gzip",
    ".md": "text/markdown",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
}
_UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What somebody would put into a conversation, beside the content; which version he has read, 0: there was none, None: whatever is there."""

    conversation_id: str
    name: str
    kind: str = Kind.OTHER
    media_type: str | None = None
    task: str | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A version of an artifact; of the list, the latest."""

    name: str
    version: int
    versions: Annotated[int, Field(description="How many there are; the last is the latest.")]
    kind: Kind
    media_type: str
    size: Annotated[int, Field(description="In bytes.")]
    sha256: str
    created_by: str
    created_at: datetime
    task_id: uuid.UUID | None


def admit(session: Session, offered: Offered, *, size: int) -> None:
    """Pass if the caller may put so many bytes there, and count them: before they are written anywhere.

    Raises NotFound for a conversation that is not the caller's and for a task that is not in it, Conflict where another version is there than
    the caller expects, InvalidInput, OverQuota.
    """
    row = _row(session, offered)
    latest = _latest(session, offered.conversation_id, str(row["name"]))
    # One as long may be the same: a call that is repeated, because its answer was lost.
    if latest is None or latest.size != size:
        _require_expected(offered, latest)
    limits.artifact(session, size)


def record(session: Session, offered: Offered, stored: Stored) -> ArtifactView:
    """Make what is stored the next version of its name; what is the latest already stays as it is. Raises as `admit` does, but for OverQuota."""
    row = _row(session, offered) | {"size": stored.size, "sha256": stored.sha256}
    # Of two who put something under the name, the second must see what the first has put.
    turns.take(session, f"artifact:{offered.conversation_id}:{row['name']}")
    latest = _latest(session, offered.conversation_id, str(row["name"]))
    if latest is not None and all(getattr(latest, column) == value for column, value in row.items()):
        return _view(latest, latest.version)
    _require_expected(offered, latest)
    if offered.conversation_id == conversations.COMMONS:
        # It is there from the first word on that is said in it.
        conversations.open_for(session, offered.conversation_id, [])
    version = latest.version + 1 if latest else 1
    made = Artifact(id=uuid.uuid4(), version=version, created_by=context(session).actor, **row)
    session.add(made)
    session.flush()
    session.refresh(made)
    payload = {
        "artifact_id": made.id,
        "name": made.name,
        "artifact_version": made.version,
        "kind": made.kind,
        "media_type": made.media_type,
        "size": made.size,
        "sha256": made.sha256,
        "task_id": made.task_id,
    }
    event_log.append(session, "artifact.stored", f"artifacts:{made.conversation_id}", payload=payload, conversation_id=made.conversation_id)
    return _view(made, version)


def find(session: Session, conversation_id: str, name: str, version: int | None = None) -> ArtifactView:
    """Return a version of an artifact, the latest if none is named. Raises NotFound with the nearest names, InvalidInput."""
    conversations.require_member(session, conversation_id)
    called = valid_name(name)
    latest = _latest(session, conversation_id, called)
    if latest is None:
        names = select(Artifact.name).where(Artifact.conversation_id == conversation_id).distinct().limit(1000)
        raise NotFound("artifact", name, session.scalars(names))
    if version is None:
        return _view(latest, latest.version)
    mine = (Artifact.conversation_id == conversation_id, Artifact.name == called)
    found = session.scalars(select(Artifact).where(*mine, Artifact.version == version)).one_or_none()
    if found is None:
        raise InvalidInput("version", version, f"1 to {latest.version} of {called}")
    return _view(found, latest.version)


def page(session: Session, conversation_id: str, *, after: str = "", limit: int = 100) -> tuple[list[ArtifactView], bool]:
    """Return the next artifacts of a conversation behind a name, each in its latest version, and whether there are more. Raises NotFound."""
    conversations.require_member(session, conversation_id)
    mine = (Artifact.conversation_id == conversation_id, Artifact.name > after)
    latest = select(Artifact).where(*mine).ext(distinct_on(Artifact.name)).order_by(Artifact.name, Artifact.version.desc())
    found = list(session.scalars(latest.limit(limit + 1)))
    return [_view(one, one.version) for one in found[:limit]], len(found) > limit


def bundle(listed: Sequence[ArtifactView]) -> dict[Kind, list[ArtifactView]]:
    """Return artifacts by their part of the bundle, in its order."""
    return {kind: [one for one in listed if one.kind == kind] for kind in Kind}


def valid_name(name: str) -> str:
    """Return the name as it is kept: composed, so that what looks alike is one. Raises InvalidInput."""
    composed = unicodedata.normalize("NFC", name)
    # It is shown to people and becomes the name of a file of who gets it.
    shown = all(character.isprintable() or character in _JOINERS for character in composed)
    fits = 0 < len(composed) <= LONGEST_NAME and composed == composed.strip() and shown
    if not fits or any(part in {"", ".", ".."} for part in composed.split("/")):
        raise InvalidInput("name", name, WANTED_NAME)
    return composed


def _row(session: Session, offered: Offered) -> dict[str, object]:
    """Return what of a version's row is known before its content is stored."""
    conversations.require_member(session, offered.conversation_id)
    name = valid_name(offered.name)
    if offered.kind not in set(Kind):
        raise InvalidInput("kind", offered.kind, "one of " + ", ".join(Kind))
    if offered.media_type is not None and not re.fullmatch(MEDIA_TYPE, offered.media_type):
        raise InvalidInput("media_type", offered.media_type, WANTED_TYPE)
    task = None if offered.task is None else tasks.find(session, offered.task, conversation_id=offered.conversation_id)
    return {
        "conversation_id": offered.conversation_id,
        "name": name,
        "kind": Kind(offered.kind),
        "media_type": offered.media_type or _TYPES.get(PurePosixPath(name).suffix.lower(), _UNKNOWN_TYPE),
        "task_id": task.id if task else None,
    }


def _require_expected(offered: Offered, latest: Artifact | None) -> None:
    """Pass if the latest version is the one that the caller has read, or if he does not say. Raises Conflict, InvalidInput."""
    expected, found = offered.expected_version, latest.version if latest else 0
    if expected in {None, found}:
        return
    if latest is None or not 0 <= expected < found:
        raise InvalidInput("expected_version", expected, f"at most {found}, the latest version of {offered.name} (0: there is none)")
    raise Conflict(
        f"{offered.name} is at version {found} by now, put by {latest.created_by}, and not at {expected} as you expect: nothing was put, and no "
        f"version is lost. Get version {found}, work into it what you changed, and put that with the expected version {found}"
    )


def _latest(session: Session, conversation_id: str, name: str) -> Artifact | None:
    mine = select(Artifact).where(Artifact.conversation_id == conversation_id, Artifact.name == name)
    return session.scalars(mine.order_by(Artifact.version.desc()).limit(1)).one_or_none()


def _view(one: Artifact, versions: int) -> ArtifactView:
    told = (one.media_type, one.size, one.sha256, one.created_by, one.created_at, one.task_id)
    return ArtifactView(one.name, one.version, versions, Kind(one.kind), *told)
