"""Requests to index and to search, and what a search shows: what its asker may see."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.errors import InvalidInput, NotFound
from federation.services import agents, charter, indexed_folders, limits
from federation.services.visibility import audience
from federation.store import outbox
from federation.store.models.cop import Visibility
from federation.store.models.retrieval import Chunk, Document, IndexedFolder

INDEX = "federation.tasks.retrieval.index"
EMBED = "federation.tasks.retrieval.embed"
WRITE = "federation.tasks.retrieval.write"
SEARCH = "federation.tasks.retrieval.search"
# LanceDB lies on the node of this tag: scans, writes and searches run there.
FRAG = "frag"
EMBEDDING_ENGINE = "minilm"


@dataclass(frozen=True, slots=True)
class Hit:
    """A place in an indexed tree that answers a query."""

    root: Annotated[str, Field(description="The indexed folder.")]
    path: Annotated[str, Field(description="The file, from the indexed folder on.")]
    start_line: Annotated[int, Field(description="Counted from 1.")]
    end_line: Annotated[int, Field(description="The last line that belongs to it.")]
    title: Annotated[str, Field(description="What the place is called: a function, a class, a heading.")]
    kind: str
    score: Annotated[float, Field(description="Higher is better; to be compared within one answer only.")]
    matched_by: Annotated[Sequence[str], Field(description="The rankers that found it: by meaning, by words.")]
    text: str


@dataclass(frozen=True, slots=True)
class RunView:
    """How far a run of the indexer is."""

    run_id: uuid.UUID
    root: str
    files: int
    changed_files: int
    deleted_files: int
    chunks: int
    batches: int
    batches_done: int
    skipped: Sequence[dict[str, str]]
    finished: bool
    # None once the index is withdrawn.
    visibility: Visibility | None


def request_index(session: Session, path: str, *, visibility: str | None = None, conversation_id: str | None = None) -> uuid.UUID:
    """Record the execution that indexes a tree on the node that holds the vectors; return the id of the run.

    Those of a visibility may see it; without one, those for whom the caller indexed it before, or all. Raises InvalidInput, NotFound for a
    conversation of which the caller is not a member, RateLimited, and Refused for who may not hand work to a node.
    """
    if not PurePosixPath(agents.require(path, "path")).is_absolute():
        raise InvalidInput("path", path, "an absolute path of a folder on the node that holds the vectors")
    charter.require(session, Right.RUN, instead=charter.ASK)
    audience(session, visibility, conversation_id)
    limits.indexing(session)
    asked = {"path": path, "visibility": visibility, "conversation_id": conversation_id}
    return outbox.record(session, INDEX, {name: value for name, value in asked.items() if value is not None}, requirements={"tags": [FRAG]})


def request_search(session: Session, query: str, *, limit: int = 5, root: str | None = None) -> uuid.UUID:
    """Record the execution that searches what is indexed; return its id.

    Raises InvalidInput, NotFound for a folder that is not indexed, RateLimited.
    """
    agents.require(query, "query")
    if not 1 <= limit <= 50:
        raise InvalidInput("limit", limit, "1 to 50 hits")
    if root is not None:
        root = root.rstrip("/") or "/"
        if root not in (known := indexed_folders.roots(session)):
            raise NotFound("indexed folder", root, known)
    limits.search(session)
    requirements = {"tags": [FRAG], "engine": EMBEDDING_ENGINE}
    return outbox.record(session, SEARCH, {"query": query, "limit": limit, "root": root}, requirements=requirements, priority=8)


def show(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]]) -> list[Hit]:
    """Return the ranked chunks (id, score, names of the rankers) that are recorded and may be seen, in their order; of each file the first."""
    return [hit for _, hit in places(session, ranked)]


def places(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]]) -> list[tuple[uuid.UUID, Hit]]:
    """Return the same with their ids."""
    query = (
        select(Chunk, Document.path, IndexedFolder.root)
        .join(Document, Document.id == Chunk.document_id)
        .join(IndexedFolder, IndexedFolder.id == Document.folder_id)
        .where(Chunk.id.in_([identity for identity, _, _ in ranked]))
    )
    found = {chunk.id: (chunk, path, root) for chunk, path, root in session.execute(query)}
    # Who may see several indexes of a folder is shown each file once.
    hits: dict[tuple[str, str], tuple[uuid.UUID, Hit]] = {}
    for identity, score, rankers in ranked:
        if identity in found:
            chunk, path, root = found[identity]
            where = (root, path, chunk.start_line, chunk.end_line, chunk.title, chunk.kind)
            hits.setdefault((root, path), (identity, Hit(*where, score, list(rankers), chunk.text)))
    return list(hits.values())
