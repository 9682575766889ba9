"""Answers of models that may be given again: a copy of each, for those who may read where it was asked for."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, UpdatedBy


class CachedAnswer(Base):
    """What a model answered in an execution, for the members of its conversation, or for who asked alone; gone by age, or for want of room."""

    __tablename__ = "cached_answers"
    # The same question to the same weights is kept once.
    __table_args__ = (Index("ix_cached_answers_said", "key", text("md5(prompt)"), "model", text("coalesce(model_digest, '')"), unique=True),)

    execution_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True)
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    # The hash of what must be the same beside the prompt, of its readers too.
    key: Mapped[str]
    prompt: Mapped[str]
    # The prompt's, 384 numbers of 4 bytes, little-endian.
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    completion: Mapped[str]
    engine: Mapped[str]
    model: Mapped[str]
    model_digest: Mapped[str | None]
    used_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]
