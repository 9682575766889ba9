"""Tasks that nobody has taken in time: told to those who may hand out work, who may take them from then on; each once, until it is handed on."""

import uuid
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Text, cast, func, select, update
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.services import announcements, conversations, executions, phases, task_events
from federation.services.resources import TASK
from federation.store.among import none_of
from federation.store.models.agents import Agent
from federation.store.models.claims import Claim
from federation.store.models.conversations import Member
from federation.store.models.tasks import AgentTask, Executor, TaskStatus

# Of what nobody has taken, at most so many in one look.
AT_ONCE = 200


def any_due(after: timedelta) -> ColumnElement[bool]:
    """Return a part of a query that tells whether any have waited so long."""
    return select(AgentTask.id).where(*_untaken(after)).exists()


def due(session: Session, *, after: timedelta, but: Collection[uuid.UUID] = ()) -> Sequence[uuid.UUID]:
    """Return the tasks that have waited so long, but for these, the longest first."""
    query = select(AgentTask.id).where(*_untaken(after), none_of(AgentTask.id, but))
    return session.scalars(query.order_by(AgentTask.waiting_since).limit(AT_ONCE)).all()


def escalate(session: Session, task_id: uuid.UUID, *, after: timedelta) -> bool:
    """Tell those who may hand it out that nobody has taken a task; False if somebody has, or was told before."""
    won = update(AgentTask).where(AgentTask.id == task_id, *_untaken(after)).values(escalated_at=func.clock_timestamp()).returning(AgentTask)
    task = session.scalars(won).one_or_none()
    if task is None:
        return False
    leads = _leads(session, task)
    task_events.append(session, "task.escalated", task, told=leads)
    announcements.of_escalation(session, task, leads=leads, why=_why(session, task))
    return True


def _untaken(after: timedelta) -> list[ColumnElement[bool]]:
    # Of one that somebody took, the time counts from when his claim was over: he may be gone.
    name = func.concat(TASK, ":", cast(AgentTask.id, Text))
    held_until = select(Claim.expires_at).where(Claim.resource == name, Claim.released_at.is_(None)).scalar_subquery()
    waiting = AgentTask.status.in_((TaskStatus.PENDING, TaskStatus.ASSIGNED))
    return [
        AgentTask.escalated_at.is_(None),
        AgentTask.waiting_since <= func.clock_timestamp() - after,
        waiting | (AgentTask.status == TaskStatus.RUNNING) & (AgentTask.executor != Executor.NODE),
        func.greatest(AgentTask.waiting_since, held_until) <= func.clock_timestamp() - after,
    ]


def _leads(session: Session, task: AgentTask) -> list[str]:
    """Return the members of its conversation who may hand it out."""
    query = select(Agent.name).where(Agent.role.in_(rules().who_may(Right.DESIGNATE))).order_by(Agent.name)
    if task.conversation_id != conversations.COMMONS:
        query = query.where(Agent.name.in_(select(Member.agent).where(Member.conversation_id == task.conversation_id)))
    return list(session.scalars(query))


def _why(session: Session, task: AgentTask) -> str:
    """Return in words what keeps it from being taken."""
    if (phase := phases.holding(session, task.task_type, task.conversation_id)) is not None:
        return f"work of the kind {task.task_type} is not begun in the phase {phase}"
    if task.executor == Executor.NODE:
        missing = executions.waiting_for(session, executions.of_task(session, task.id))
        return f"it waits for {missing}" if missing else "no node has begun it"
    if task.status == TaskStatus.RUNNING:
        return f"the claim of {task.assigned_to} lapsed, and it is not done"
    if task.meant_for is not None:
        return f"{task.meant_for} has not claimed it"
    return f"nobody who can {task.capability} has claimed it" if task.capability else "nobody has claimed it"
