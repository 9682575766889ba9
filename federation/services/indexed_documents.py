"""Documents and chunks as they are recorded: of a tree there are tens of thousands, so a statement each is for many."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.store.context import context

_UPSERT = text(
    """
    INSERT INTO documents (folder_id, run_id, created_by, updated_by, path, sha256, size)
    SELECT :folder_id, :run_id, :actor, :actor, path, sha256, size
    FROM unnest(CAST(:paths AS text[]), CAST(:digests AS text[]), CAST(:sizes AS integer[])) AS new (path, sha256, size)
    ON CONFLICT (folder_id, path)
        DO UPDATE SET sha256 = excluded.sha256, size = excluded.size, run_id = excluded.run_id, words_at = NULL, updated_by = excluded.updated_by
    RETURNING path, id
    """
)
_KNOWN = text("SELECT document_id, content_hash, id FROM chunks WHERE document_id = ANY(CAST(:documents AS uuid[]))")
_INSERT = text(
    """
    INSERT INTO chunks (document_id, kind, title, start_line, end_line, text, content_hash, updated_by)
    SELECT document_id, kind, title, start_line, end_line, text, content_hash, :actor
    FROM unnest(
        CAST(:document_id AS uuid[]), CAST(:kind AS text[]), CAST(:title AS text[]), CAST(:start_line AS integer[]), CAST(:end_line AS integer[]),
        CAST(:text AS text[]), CAST(:content_hash AS text[])
    ) AS new (document_id, kind, title, start_line, end_line, text, content_hash)
    """
)
_MOVE = text(
    """
    UPDATE chunks SET start_line = moved.first, end_line = moved.last, updated_by = :actor
    FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS integer[]), CAST(:lasts AS integer[])) AS moved (id, first, last)
    WHERE chunks.id = moved.id AND (chunks.start_line, chunks.end_line) <> (moved.first, moved.last)
    """
)
_OF_A_PIECE = ("kind", "title", "start_line", "end_line", "text", "content_hash")


class Piece(Protocol):
    """A part of a file that is to be found as one; lines count from 1. A `Chunk` of `federation.vectors` is one."""

    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def start_line(self) -> int: ...
    @property
    def end_line(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def content_hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A file that is new or has changed."""

    path: str
    sha256: str
    size: int
    chunks: Sequence[Piece] = ()


def record(session: Session, folder_id: uuid.UUID, run_id: uuid.UUID, documents: Sequence[NewDocument]) -> list[uuid.UUID]:
    """Record documents that are new or have changed, with their chunks; return the ids of chunks that they have no more, which are still there."""
    actor = context(session).actor
    paths, digests, sizes = ([getattr(each, name) for each in documents] for name in ("path", "sha256", "size"))
    asked = {"folder_id": folder_id, "run_id": run_id, "actor": actor, "paths": paths, "digests": digests, "sizes": sizes}
    ids: dict[str, uuid.UUID] = {row.path: row.id for row in session.execute(_UPSERT, asked)}
    known = {(row.document_id, row.content_hash): row.id for row in session.execute(_KNOWN, {"documents": list(ids.values())})}
    wanted = {(ids[document.path], chunk.content_hash): chunk for document in documents for chunk in document.chunks}
    kept = {known[key]: chunk for key, chunk in wanted.items() if key in known}
    if kept:
        firsts, lasts = ([getattr(chunk, name) for chunk in kept.values()] for name in ("start_line", "end_line"))
        session.execute(_MOVE, {"ids": list(kept), "firsts": firsts, "lasts": lasts, "actor": actor})
    if fresh := [key for key in wanted if key not in known]:
        columns = {name: [getattr(wanted[key], name) for key in fresh] for name in _OF_A_PIECE}
        session.execute(_INSERT, {"document_id": [document_id for document_id, _ in fresh], "actor": actor, **columns})
    return [identity for key, identity in known.items() if key not in wanted]
