"""The event log, append-only by trigger and grants, the counters of its streams, its one order, and the seals over that."""

import uuid
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, Key


class Stream(Base):
    """The last position given in a stream; its row lock makes positions gapless."""

    __tablename__ = "streams"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    # Whether that was taken together with its event, so that nobody has to look for it at the end of the transaction.
    told: Mapped[bool] = mapped_column(server_default=false())


class Event(Base):
    """Something that happened, who did it, and its place in its stream."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("stream", "position"),
        UniqueConstraint("sequence"),
        Index("ix_events_trace_id", "trace_id"),
        # They come in the order of time: a few pages say where a day begins, and nearly nothing is written for it.
        Index("ix_events_created_at", "created_at", postgresql_using="brin"),
    )

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
    # The order of insertion; it has gaps where a transaction was undone, and within a stream it follows the positions.
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True))


class OrderedEvent(Base):
    """An event's place in the one order of all: numbers without gaps, given once each, after the commit; `leaf` is its hash."""

    __tablename__ = "event_order"
    __table_args__ = (UniqueConstraint("sequence"),)

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    # No foreign key: it would lock each event's row once more, and the audit looks for events that are missing.
    sequence: Mapped[int] = mapped_column(BigInteger)
    leaf: Mapped[bytes]


class EventRelay(Base):
    """How far the relay has come: the last number that the topics were told, and the last sequence below which nothing can appear."""

    __tablename__ = "event_relay"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    published: Mapped[int] = mapped_column(BigInteger, server_default="0")
    settled: Mapped[int] = mapped_column(BigInteger, server_default="0")


class Seal(Base):
    """A signed statement about a range of numbers; `leaves` are their hashes, 32 bytes each."""

    __tablename__ = "seals"
    __table_args__ = (UniqueConstraint("first"), CheckConstraint("first <= last", name="range"))

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[int] = mapped_column(BigInteger)
    statement: Mapped[str]
    signature: Mapped[bytes]
    leaves: Mapped[bytes]
    created_at: Mapped[CreatedAt]
    actor: Mapped[Actor]
