"""Artifacts: which files the members of a conversation share; what is in them is not in the database."""

import uuid
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, one_of


class Kind(StrEnum):
    """Which part of the bundle an artifact is."""

    DESIGN = "design"
    CODE = "code"
    REVIEW = "review"
    TESTS = "tests"
    OTHER = "other"


class Artifact(Base):
    """A version of an artifact, counted from 1 within its name; what is in it lies in a file that its digest names. Nobody changes a row."""

    __tablename__ = "artifacts"
    __table_args__ = (
        # Of two who put something under one name at once, each gets a version of its own.
        UniqueConstraint("conversation_id", "name", "version"),
        one_of("kind", Kind),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("size >= 0", name="size"),
        # It becomes the name of a file.
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
    )

    id: Mapped[Key]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    name: Mapped[str]
    version: Mapped[int]
    kind: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    task_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agent_tasks.id"))
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
