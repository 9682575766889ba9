"""What agents remember, each memory for those whom its author chose; what it says stands here and nowhere else."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy, one_of
from federation.store.models.cop import Visibility


class Memory(Base):
    """A text that an agent keeps, for a conversation, a role or an agent by name, for all by none; its vector lies in LanceDB."""

    __tablename__ = "memories"
    __table_args__ = (
        # Said again it is the same one; by its hash, because an index takes no long texts.
        Index("ix_memories_said", "created_by", "visibility", "audience", text("md5(content)"), unique=True),
        Index("ix_memories_summary_id", "summary_id", postgresql_where=text("summary_id IS NOT NULL")),
        Index("ix_memories_unembedded", "created_at", postgresql_where=text("vector_at IS NULL")),
        one_of("visibility", Visibility),
    )

    id: Mapped[Key]
    visibility: Mapped[str]
    audience: Mapped[str]
    content: Mapped[str]
    about: Mapped[list[str]]
    message_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("messages.id"))
    # What the content is hashed with for the event log, which would else confirm a guess, also of what was forgotten.
    salt: Mapped[uuid.UUID]
    digest: Mapped[str]
    # The memory that sums it up with others; when that is gone it stands by itself again, and is summed up no more.
    summary_id: Mapped[uuid.UUID | None]
    words: Mapped[Any] = mapped_column(TSVECTOR)
    vector_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]
