"""Executions (Celery tasks that we sent), the outbox, their deliveries and effects, and what was quarantined."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, Key, UpdatedBy


class Execution(Base):
    """One Celery task run, asked for by `actor`; its outcome is in the table of results, its state is derived and stored nowhere."""

    __tablename__ = "executions"
    __table_args__ = (
        # Placement and the common operating picture count these again and again.
        Index("ix_executions_unfinished", "node", "sent_at", postgresql_where=text("outcome IS NULL AND cancelled_at IS NULL")),
        Index("ix_executions_actor_created_at", "actor", "created_at"),
        # How often a memory was to be embedded.
        Index(
            "ix_executions_memory",
            text("(kwargs ->> 'memory_id')"),
            "created_at",
            postgresql_where=text("task_name = 'federation.tasks.memories.settle'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    task_name: Mapped[str]
    kwargs: Mapped[dict[str, Any]]
    requirements: Mapped[dict[str, Any]]
    # Executions of one affinity share what a node has warm, such as the cache of a prompt's beginning.
    affinity: Mapped[str | None]
    priority: Mapped[int]
    agent_task_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agent_tasks.id"), index=True)
    # Whose members see how it goes; null: only who asked for it.
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversations.id"))
    actor: Mapped[str]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
    # Not placed before; none is placed at once.
    due_at: Mapped[datetime | None]
    node: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    # Noted by beat soon after the end, so that the unfinished are few to look through, and kept when the result goes.
    outcome: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class OutboxEntry(Base):
    """An execution that is recorded and not yet sent; gone when ActiveMQ has it."""

    __tablename__ = "outbox"

    execution_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True)
    waiting_for: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    tried_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]


class Delivery(Base):
    """One handing over of an execution to a worker's process; `retries` and `returns` tell which of its messages that was.

    `signature` is that of the message, and `message_id` what ActiveMQ called it: one signature under two names is a message and its copy.
    """

    __tablename__ = "execution_deliveries"

    execution_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    task_name: Mapped[str]
    worker: Mapped[str]
    pid: Mapped[int]
    retries: Mapped[int] = mapped_column(server_default="0")
    returns: Mapped[int] = mapped_column(server_default="0")
    redelivered: Mapped[bool]
    signature: Mapped[str | None]
    message_id: Mapped[str | None]
    delivered_at: Mapped[CreatedAt]
    actor: Mapped[Actor]


class Effect(Base):
    """What an execution did, once, whatever the number of its deliveries."""

    __tablename__ = "execution_effects"

    execution_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    actor: Mapped[str]
    created_at: Mapped[CreatedAt]


class Redrive(Base):
    """Somebody sent a quarantined execution again; what it failed before counts no more."""

    __tablename__ = "redrives"

    quarantine_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("quarantine.id"), primary_key=True)
    execution_id: Mapped[uuid.UUID] = mapped_column(index=True)
    created_at: Mapped[CreatedAt]
    actor: Mapped[Actor]


class Dismissal(Base):
    """Somebody looked at a quarantined message and wants nothing done about it."""

    __tablename__ = "dismissals"

    quarantine_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("quarantine.id"), primary_key=True)
    reason: Mapped[str]
    created_at: Mapped[CreatedAt]
    actor: Mapped[Actor]


class QuarantinedMessage(Base):
    """A message that is not run: why, and all that came with it."""

    __tablename__ = "quarantine"

    id: Mapped[Key]
    execution_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    task_name: Mapped[str | None]
    queue: Mapped[str]
    worker: Mapped[str]
    reason: Mapped[str]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
    actor: Mapped[Actor]
