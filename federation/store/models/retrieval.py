"""Indexed folders and for whom, their documents and chunks, the runs that indexed them, and vectors on their way to LanceDB."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy, one_of
from federation.store.models.cop import Visibility


class IndexedFolder(Base):
    """A folder as it is indexed for an audience: a conversation, a role or an agent by name, all by none; nobody changes for whom."""

    __tablename__ = "indexed_folders"
    __table_args__ = (UniqueConstraint("root", "visibility", "audience"), one_of("visibility", Visibility))

    id: Mapped[Key]
    root: Mapped[str]
    visibility: Mapped[str]
    audience: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class IndexRun(Base):
    """One pass over a tree; its id is that of the execution that scans."""

    __tablename__ = "index_runs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    # No foreign key, because a run is still known when the index that it was for is withdrawn.
    folder_id: Mapped[uuid.UUID] = mapped_column(index=True)
    root: Mapped[str]
    files: Mapped[int]
    changed_files: Mapped[int]
    deleted_files: Mapped[int]
    chunks: Mapped[int]
    batches: Mapped[int]
    skipped: Mapped[list[Any]]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    # Since when all of it is found by its words, and since when by its meaning.
    searchable_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class IndexBatch(Base):
    """Chunks that one execution embeds for a run."""

    __tablename__ = "index_batches"

    execution_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("index_runs.id", ondelete="CASCADE"), index=True)
    chunk_ids: Mapped[list[Any]]
    node: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class Document(Base):
    """A file of an indexed folder, known by its digest."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("folder_id", "path"), Index("ix_documents_unsearchable", "folder_id", postgresql_where="words_at IS NULL"))

    id: Mapped[Key]
    folder_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("indexed_folders.id"))
    path: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]
    # The run that recorded it last.
    run_id: Mapped[uuid.UUID]
    # Since when all that is in it is found by its words.
    words_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]


class Chunk(Base):
    """A piece of a document that is embedded and found as one."""

    __tablename__ = "chunks"
    __table_args__ = (Index("ix_chunks_pending", "document_id", postgresql_where="vector_at IS NULL"),)

    id: Mapped[Key]
    document_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    title: Mapped[str]
    start_line: Mapped[int]
    end_line: Mapped[int]
    text: Mapped[str]
    content_hash: Mapped[str]
    # Since when it is found by its meaning.
    vector_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]


class VectorChange(Base):
    """A vector that the writer on the `frag` node is to put into LanceDB; no vector means delete."""

    __tablename__ = "vector_changes"

    chunk_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("index_runs.id", ondelete="CASCADE"), index=True)
    model: Mapped[str | None]
    vector: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]
