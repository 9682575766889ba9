"""Requests to index and to search, and what a search shows; everything that is indexed may be shown to every agent."""

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
from federation.services import agents, charter, limits
from federation.store import outbox
from federation.store.models.retrieval import Chunk, Document, IndexRun

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


def request_index(session: Session, path: str) -> uuid.UUID:
    """Record the execution that indexes a tree on the node that holds the vectors; return the id of the run.

    Raises InvalidInput, RateLimited, and Refused for who may not hand work to a node: what is indexed is shown to all.
    """
    if not PurePosixPath(agents.require(path, "path")).is_absolute():
        raise InvalidInput("path", path, "an absolute path of a folder on the node that holds the vectors")
    charter.require(session, Right.RUN, instead=charter.ASK)
    limits.indexing(session)
    return outbox.record(session, INDEX, {"path": path}, requirements={"tags": [FRAG]})


def request_search(session: Session, query: str, *, limit: int = 5, root: str | None = None) -> uuid.UUID:
    """Record the execution that searches what is indexed; return its id.

    Raises InvalidInput, NotFound for a folder that is not indexed, RateLimited.
    """
    agents.require(query, "query")
    if not 1 <= limit <= 50:
        raise InvalidInput("limit", limit, "1 to 50 hits")
    if root is not None:
        root = root.rstrip("/") or "/"
        if root not in (known := roots(session)):
            raise NotFound("indexed folder", root, known)
    limits.search(session)
    requirements = {"tags": [FRAG], "engine": EMBEDDING_ENGINE}
    return outbox.record(session, SEARCH, {"query": query, "limit": limit, "root": root}, requirements=requirements, priority=8)


def show(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]]) -> list[Hit]:
    """Return the ranked chunks (id, score, names of the rankers) that are still recorded, in their order."""
    return [hit for _, hit in places(session, ranked)]


def places(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]]) -> list[tuple[uuid.UUID, Hit]]:
    """Return the same with their ids."""
    query = select(Chunk, Document).join(Document, Document.id == Chunk.document_id).where(Chunk.id.in_([identity for identity, _, _ in ranked]))
    found = {chunk.id: (chunk, document) for chunk, document in session.execute(query)}
    hits = []
    for identity, score, rankers in ranked:
        if identity in found:
            chunk, document = found[identity]
            where = (document.root, document.path, chunk.start_line, chunk.end_line, chunk.title, chunk.kind)
            hits.append((identity, Hit(*where, score, list(rankers), chunk.text)))
    return hits


def roots(session: Session) -> list[str]:
    """Return the trees that are indexed, in order."""
    return list(session.scalars(select(IndexRun.root).distinct().order_by(IndexRun.root)))
