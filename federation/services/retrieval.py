"""Requests to index and to search, and what a search shows: what its asker may see."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.errors import InvalidInput, NotFound
from federation.services import agents, charter, conversations, indexed_folders, limits
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
STATIC_ENGINE = "wordllama"
COMPACT = "federation.tasks.retrieval.compact"


class Language(StrEnum):
    """What a file is written in, as its name ends."""

    BASH = "bash"
    C = "c"
    CPP = "cpp"
    CSHARP = "csharp"
    GO = "go"
    JAVA = "java"
    JAVASCRIPT = "javascript"
    MARKDOWN = "markdown"
    PHP = "php"
    PYTHON = "python"
    RUBY = "ruby"
    RUST = "rust"
    TYPESCRIPT = "typescript"


class Kind(StrEnum):
    """What a place is: a definition, what is left of a file or namespace (module), or a part of a text."""

    FUNCTION = "function"
    METHOD = "method"
    CLASS = "class"
    MODULE = "module"
    SECTION = "section"
    PARAGRAPH = "paragraph"


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
    matched_by: Annotated[Sequence[str], Field(description="The rankers that found it: words, word vectors, meaning.")]
    text: str
    words: Annotated[Sequence[str], Field(description="Words of the query that occur in it.")] = ()
    line: Annotated[int | None, Field(description="The line of it that has most of these.")] = None


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
    # Found by its words, and by its meaning too.
    searchable: bool
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


@dataclass(frozen=True, slots=True)
class Narrower:
    """To what a search is limited; `path` is how paths in an indexed folder begin, and with a conversation it is what was indexed for its members."""

    root: str | None = None
    path: str | None = None
    language: Language | None = None
    kind: Kind | None = None
    conversation_id: str | None = None


def request_search(session: Session, query: str, narrower: Narrower | None = None, *, limit: int = 5) -> uuid.UUID:
    """Record the execution that searches what is indexed; return its id.

    Raises InvalidInput, NotFound for a folder that is not indexed or a conversation of which the caller is no member, RateLimited.
    """
    agents.require(query, "query")
    if not 1 <= limit <= 50:
        raise InvalidInput("limit", limit, "1 to 50 hits")
    limited = {name: value for name, value in asdict(narrower or Narrower()).items() if value is not None}
    if "root" in limited:
        limited["root"] = limited["root"].rstrip("/") or "/"
        if limited["root"] not in (known := indexed_folders.roots(session)):
            raise NotFound("indexed folder", limited["root"], known)
    if "conversation_id" in limited:
        conversations.require_member(session, limited["conversation_id"])
    limits.search(session)
    requirements = {"tags": [FRAG], "engine": EMBEDDING_ENGINE}
    asked = {"query": query, "limit": limit, **limited}
    return outbox.record(session, SEARCH, asked, requirements=requirements, priority=8)


def show(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]]) -> list[Hit]:
    """Return the ranked chunks (id, score, names of the rankers) that are recorded and may be seen, in their order; of each definition the first."""
    return [hit for _, hit in places(session, ranked)]


def places(session: Session, ranked: Sequence[tuple[uuid.UUID, float, Sequence[str]]], *, limit: int | None = None) -> list[tuple[uuid.UUID, Hit]]:
    """Return the same with their ids, at most `limit`."""
    # A long definition is several chunks, and who may see several indexes of a folder would see each place twice.
    hits: dict[tuple[str, str, str | int], tuple[uuid.UUID, Hit]] = {}
    at_once = len(ranked) if limit is None else _LOOKED_AT * limit
    for start in range(0, len(ranked), at_once or 1):
        some = ranked[start : start + at_once]
        found = {row[0]: row[1:] for row in session.execute(_PLACES, {"ids": [identity for identity, _, _ in some]})}
        for identity, score, rankers in some:
            if identity in found:
                root, path, first, last, title, kind, text = found[identity]
                where = (root, path, first, last, title, kind)
                hits.setdefault((root, path, title or first), (identity, Hit(*where, score, list(rankers), text)))
        if limit is not None and len(hits) >= limit:
            break
    return list(hits.values())[:limit]


# One parameter for all ids: PostgreSQL plans a statement of the same words once.
_PLACES = (
    select(Chunk.id, IndexedFolder.root, Document.path, Chunk.start_line, Chunk.end_line, Chunk.title, Chunk.kind, Chunk.text)
    .join(Document, Document.id == Chunk.document_id)
    .join(IndexedFolder, IndexedFolder.id == Document.folder_id)
    .where(Chunk.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid()))))
)
# Of several chunks one is shown, so twice as many as are wanted are read first, and the rest if that was too little.
_LOOKED_AT = 2
