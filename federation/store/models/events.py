"""The event log, append-only by trigger and grants, and the counters of its streams."""

import uuid
from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key


class Stream(Base):
    """The last position given in a stream; its row lock makes positions gapless."""

    __tablename__ = "streams"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)


class Event(Base):
    """Something that happened, who did it, and its place in its stream."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("stream", "position"), Index("ix_events_trace_id", "trace_id"))

    id: Mapped[Key]
    stream: Mapped[str]
    position: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    actor: Mapped[str]
    conversation_id: Mapped[str | None]
    session_id: Mapped[uuid.UUID | None]
    payload: Mapped[dict[str, Any]]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
