"""Tasks: pieces of work for an agent, a node or a person."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy, one_of


class TaskType(StrEnum):
    """What kind of work a task is."""

    INVESTIGATE = "investigate"
    ANALYZE = "analyze"
    REMEDIATE = "remediate"
    REPORT = "report"


class TaskStatus(StrEnum):
    """Where a task stands."""

    AWAITING_APPROVAL = "awaiting_approval"
    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class Executor(StrEnum):
    """Who does the work of a task."""

    AGENT = "agent"
    NODE = "node"


class AgentTask(Base):
    """A piece of work; `slug` is the name that its author chose, unique in the conversation."""

    __tablename__ = "agent_tasks"
    __table_args__ = (
        UniqueConstraint("conversation_id", "slug"),
        one_of("task_type", TaskType),
        one_of("status", TaskStatus),
        one_of("executor", Executor),
        CheckConstraint("priority BETWEEN 1 AND 10", name="priority"),
        Index("ix_agent_tasks_awaiting_approval", "created_at", postgresql_where=text("status = 'awaiting_approval'")),
        # Each delegation counts its author's.
        Index("ix_agent_tasks_open", "created_by", postgresql_where=text("status NOT IN ('completed', 'failed', 'cancelled')")),
    )

    id: Mapped[Key]
    session_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agent_sessions.id"), index=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    slug: Mapped[str | None] = mapped_column(index=True)
    description: Mapped[str]
    task_type: Mapped[str] = mapped_column(String(50))
    parameters: Mapped[dict[str, Any] | None]
    priority: Mapped[int]
    executor: Mapped[str]
    requirements: Mapped[dict[str, Any]]
    assigned_to: Mapped[str | None] = mapped_column(String(100))
    reserved_for: Mapped[str | None]
    start_at: Mapped[datetime | None]
    requires_approval: Mapped[bool] = mapped_column(server_default=false())
    # Who approved or rejected it, and why; null while it waits, and for a task that requires no approval.
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]
    status: Mapped[str] = mapped_column(String(50), server_default=TaskStatus.PENDING)
    result: Mapped[dict[str, Any] | None]
    created_by: Mapped[str]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]
