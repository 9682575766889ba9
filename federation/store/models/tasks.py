"""Tasks (pieces of work for an agent, a node or a person), and who was given which role for them."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint, false, text
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
    EXPIRED = "expired"


ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
# May be worked on; what awaits approval may not.
BEGUN = frozenset({TaskStatus.PENDING, TaskStatus.ASSIGNED, TaskStatus.RUNNING})
_BROKEN_OFF = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
# What may follow on what, which a trigger holds as well. What nobody holds any more waits again; a node's task that failed may be sent again.
MOVES: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.AWAITING_APPROVAL: frozenset({TaskStatus.PENDING, TaskStatus.ASSIGNED, TaskStatus.CANCELLED}),
    TaskStatus.PENDING: _BROKEN_OFF | {TaskStatus.ASSIGNED, TaskStatus.RUNNING},
    TaskStatus.ASSIGNED: _BROKEN_OFF | {TaskStatus.RUNNING},
    TaskStatus.RUNNING: ENDED | {TaskStatus.PENDING, TaskStatus.ASSIGNED},
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING}),
    **dict.fromkeys((TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.EXPIRED), frozenset[TaskStatus]()),
}


class Executor(StrEnum):
    """Who does the work of a task; a person is one of the role `human`."""

    AGENT = "agent"
    NODE = "node"
    PERSON = "person"


_ENDS = "'completed', 'failed', 'cancelled', 'expired'"


class AgentTask(Base):
    """A piece of work; `slug` is the name that its author chose, unique in the conversation; `parent_id` the task that it is a part of."""

    __tablename__ = "agent_tasks"
    __table_args__ = (
        UniqueConstraint("conversation_id", "slug"),
        UniqueConstraint("conversation_id", "id"),
        # A part of a task stands where the whole does, so that who sees the one sees the other.
        ForeignKeyConstraint(["conversation_id", "parent_id"], ["agent_tasks.conversation_id", "agent_tasks.id"]),
        one_of("task_type", TaskType),
        one_of("status", TaskStatus),
        one_of("executor", Executor),
        CheckConstraint("priority BETWEEN 1 AND 10", name="priority"),
        CheckConstraint("timeout_s > 0", name="timeout_s"),
        Index("ix_agent_tasks_awaiting_approval", "created_at", postgresql_where=text("status = 'awaiting_approval'")),
        # Each delegation counts its author's.
        Index("ix_agent_tasks_open", "created_by", postgresql_where=text(f"status NOT IN ({_ENDS})")),
        # Beat looks every second for what is over its time, and for what nobody has taken.
        Index("ix_agent_tasks_expiring", "expires_at", postgresql_where=text(f"status NOT IN ({_ENDS})")),
        Index("ix_agent_tasks_untaken", "waiting_since", postgresql_where=text(f"escalated_at IS NULL AND status NOT IN ({_ENDS})")),
    )

    id: Mapped[Key]
    session_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agent_sessions.id"), index=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    slug: Mapped[str | None] = mapped_column(index=True)
    parent_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    description: Mapped[str]
    task_type: Mapped[str] = mapped_column(String(50))
    parameters: Mapped[dict[str, Any] | None]
    priority: Mapped[int]
    executor: Mapped[str]
    requirements: Mapped[dict[str, Any]]
    # For whoever says that he can do it.
    capability: Mapped[str | None]
    # Whether a node's model reads what is found about it in the indexed files.
    look_up: Mapped[bool] = mapped_column(server_default=false())
    assigned_to: Mapped[str | None] = mapped_column(String(100))
    reserved_for: Mapped[str | None]
    # Whom the Lead has given it since, which goes before all that it was delegated with.
    handed_to: Mapped[str | None]
    start_at: Mapped[datetime | None]
    # Seconds from when it may begin; `expires_at` is null before that, and without a time-out.
    timeout_s: Mapped[float | None]
    expires_at: Mapped[datetime | None]
    # Since when it may be taken; null while it awaits approval.
    waiting_since: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
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

    @property
    def meant_for(self) -> str | None:
        """The one agent who may take it; None: whoever fits."""
        return self.handed_to or self.reserved_for


class Assignment(Base):
    """Somebody designated an agent for a role in a conversation, with a task to do in it; nobody changes a row. It gives no right."""

    __tablename__ = "role_assignments"
    __table_args__ = (Index("ix_role_assignments_conversation_id_agent", "conversation_id", "agent"),)

    id: Mapped[Key]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    agent: Mapped[str] = mapped_column(ForeignKey("agents.name"))
    role: Mapped[str]
    task_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("agent_tasks.id"), index=True)
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
