"""Roles in a conversation: the Lead designates an agent for one, with a task to do in it. It gives no right: those are of the role that an
operator gave."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from federation.charter import PERSON, Right
from federation.errors import Conflict, InvalidInput
from federation.services import agents, announcements, charter, claims, conversations, task_events, tasks
from federation.services.resources import of_task
from federation.store import event_log
from federation.store.context import context
from federation.store.models.tasks import ENDED, AgentTask, Assignment, Executor, TaskStatus


@dataclass(frozen=True, slots=True)
class RoleHeld:
    """Which role an agent was designated for last, and with what."""

    agent: str
    role: str
    task: Annotated[str, Field(description="The name or id of the task.")]
    state: TaskStatus
    designated_by: str


def assign(
    session: Session, agent: str, role: str, subtask: str, *, conversation_id: str, slug: str | None = None, parent: str | None = None
) -> AgentTask:
    """Designate an agent, who becomes a member, for a role in a conversation, with a task that is his alone: a new one, or one that is there.

    `subtask` is what is to be done, or the name or id of a task of the conversation that nobody works on. Raises NotFound for an unknown agent,
    role or parent, Refused for who may not designate, Conflict for a task that somebody holds or that has ended, InvalidInput, OverQuota.
    """
    agents.require(subtask, "subtask")
    is_offering = charter.may(session, context(session).actor, Right.OFFER)
    instead = "propose it: federation_delegate with requires_approval=true." if is_offering else charter.ASK
    charter.require(session, Right.DESIGNATE, instead=instead, where=conversation_id)
    agents.valid_role(role)
    agents.get(session, agent)
    conversations.open_for(session, conversation_id, [agent])
    task = tasks.named(session, subtask, conversation_id)
    if task is None:
        task = tasks.delegate(session, subtask, agent=agent, conversation_id=conversation_id, slug=slug, parent=parent, designated=role)
        is_new = task.trace_id == context(session).trace_id
    else:
        _require_no_more(slug, parent)
        is_new = _hand_over(session, task, agent, role)
    designated = _designate(session, task, agent, role, stated=is_new)
    if is_new or designated:
        announcements.of_work(session, task, role=role)
    return task


def _require_no_more(slug: str | None, parent: str | None) -> None:
    for name, value in (("task_id", slug), ("parent", parent)):
        if value is not None:
            raise InvalidInput(name, value, "nothing where subtask names a task that is there: it has its name and its place")


def _state(session: Session, task: AgentTask, agent: str, role: str) -> None:
    task_events.state(session, "role.assign", task, agent=agent, role=role)


def _designate(session: Session, task: AgentTask, agent: str, role: str, *, stated: bool) -> bool:
    """Record whom the task makes what; False if that is known."""
    latest = select(Assignment).where(Assignment.task_id == task.id).order_by(Assignment.created_at.desc(), Assignment.id).limit(1)
    former = session.scalars(latest).one_or_none()
    if former is not None and (former.agent, former.role) == (agent, role):
        return False
    if not stated:
        _state(session, task, agent, role)
    identity, conversation_id = uuid.uuid4(), task.conversation_id
    actor = context(session).actor
    session.add(Assignment(id=identity, conversation_id=conversation_id, agent=agent, role=role, task_id=task.id, created_by=actor))
    session.flush()
    payload = {"assignment_id": identity, "agent": agent, "role": role, "task_id": task.id}
    event_log.append(session, "role.assigned", f"conversation:{conversation_id}", payload=payload, conversation_id=conversation_id)
    return True


def _hand_over(session: Session, task: AgentTask, agent: str, role: str) -> bool:
    """Give an open task to an agent, whomever it was for; False if he has it already. Raises Conflict, Refused, InvalidInput."""
    called = task.slug or task.id
    if task.executor == Executor.NODE:
        raise charter.refused("assign", f"task {called} runs on a node; read its result with federation_task_result.")
    if task.executor == Executor.PERSON and agents.role_of(session, agent) != PERSON:
        raise InvalidInput("agent", agent, f"a person for task {called}: an agent of the role {PERSON}")
    # With the turn of its claim, so that nobody takes it meanwhile; and before the task is locked, as who claims it.
    holder = claims.holder(session, of_task(task.id))
    session.refresh(task)
    if task.status in ENDED:
        raise Conflict(f"task {called} is {task.status} already; read it with federation_task_result")
    if task.status == TaskStatus.AWAITING_APPROVAL:
        raise charter.refused("propose", f"task {called} awaits approval; federation_task_status says whose.")
    if holder not in {None, agent}:
        raise Conflict(f"task {called} is held by {holder}; wait until it is given back or lapses, or cancel it with federation_cancel_task")
    if holder == agent or (task.status == TaskStatus.ASSIGNED and task.meant_for == agent):
        return False
    values = {**tasks.at_first(agent), "handed_to": agent, "escalated_at": None}
    session.execute(update(AgentTask).where(AgentTask.id == task.id, AgentTask.status.not_in(ENDED)).values(**values))
    session.refresh(task)
    _state(session, task, agent, role)
    task_events.append(session, "task.handed_over", task, agent_id=agent, handed_to=agent)
    return True


def roles(session: Session, conversation_id: str) -> Sequence[RoleHeld]:
    """Return which role each agent was designated for last in a conversation, in order of name."""
    latest = (
        select(Assignment, AgentTask)
        .join(AgentTask, AgentTask.id == Assignment.task_id)
        .where(Assignment.conversation_id == conversation_id)
        .ext(distinct_on(Assignment.agent))
        .order_by(Assignment.agent, Assignment.created_at.desc(), func.coalesce(AgentTask.slug, ""))
    )
    return [
        RoleHeld(one.agent, one.role, task.slug or str(task.id), TaskStatus(task.status), one.created_by) for one, task in session.execute(latest)
    ]
