"""Tasks that await approval: parked without an execution or a claim, until somebody with the right decides, or a vote does; decided once.

Nobody decides on what he asked for himself, unless the charter lets his role; nobody alone, where it was put to the vote.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.errors import Conflict, InvalidInput
from federation.security.statements import Mode
from federation.services import announcements, charter, conversations, gates, phases, statements, task_ends, task_events, task_terms, tasks
from federation.services.task_terms import Terms
from federation.store.behalf import on_behalf_of
from federation.store.context import context
from federation.store.models.agents import Agent
from federation.store.models.consensus import Consensus, ConsensusState
from federation.store.models.conversations import Member
from federation.store.models.tasks import AgentTask, TaskStatus

MOST_SHOWN = 50


class Decision(StrEnum):
    """What becomes of a task that awaits approval."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A task that awaits approval."""

    task_id: uuid.UUID
    slug: str | None
    conversation_id: str
    description: str
    terms: Terms
    asked_by: str
    asked_at: datetime
    waits_for: Annotated[Sequence[str], Field(description="The agents any of whom may decide; empty: an operator, or who may comes later.")]


def decide(session: Session, reference: str, decision: Decision, *, reason: str = "", conversation_id: str | None = None) -> AgentTask:
    """Approve or reject a task that awaits approval, as the charter lets the caller; the same again by the same changes nothing.

    Raises NotFound, Refused, Conflict for a task that awaits none (any more), Equivocation for the signed contrary of what the caller signed
    before, InvalidInput for a rejection without a reason.
    """
    task = tasks.find(session, reference, conversation_id=conversation_id)
    require_decider(session, task)
    return settle(session, task, decision, reason=reason)


def require_decider(session: Session, task: AgentTask) -> None:
    """Pass if the charter lets the caller decide on a task. Raises Refused."""
    charter.require(session, Right.APPROVE, instead="ask one of them to decide.", where=task.conversation_id)
    if task.created_by == context(session).actor and task.status == TaskStatus.AWAITING_APPROVAL:
        charter.require(session, Right.APPROVE_OWN, instead=f"{_asked(deciders(session, task))} to decide on task {task.slug or task.id}.")


def settle(session: Session, task: AgentTask, decision: Decision, *, reason: str) -> AgentTask:
    """Decide for a caller whose right to do so was looked at before. Raises as `decide`."""
    if decision == Decision.REJECT and not reason.strip():
        raise InvalidInput("reason", reason, "why it is rejected, for who asked for it")
    actor = context(session).actor
    # What is signed says what was decided on, and not only under which name it stands.
    about = {"reason": reason, **task_terms.decided_on(task)}
    said = statements.say(
        session,
        action="task.decide",
        choice=decision,
        subject=f"task:{task.id}",
        content=about,
        demanded=Mode(rules().demands.decision),
    )
    if (vote := locked_vote(session, task)) is not None:
        instead = f"it was put to the vote {vote.slug or vote.id}, which decides: vote there with federation_consensus_respond."
        raise charter.refused("propose", f"task {task.slug or task.id} is not for one alone to decide: {instead}")
    if not _won(session, task, decision, reason=reason, decided_by=actor):
        statements.keep_contrary(session, said, conversation_id=task.conversation_id)
        return _decided_before(task, decision, reason, actor)
    statements.keep(session, said, conversation_id=task.conversation_id)
    if decision == Decision.APPROVE:
        task_events.append(session, "task.approved", task, **about)
    else:
        task_events.append(session, "task.rejected", task, result=task.result, **about)
    announcements.of_decision(session, task)
    _follow(session, task, decision)
    return task


def settle_by_vote(session: Session, task: AgentTask, decision: Decision, *, reason: str, decided_by: str) -> bool:
    """Carry out what a vote has decided, `consensus:…`; False if the task awaits no approval any more. Raises OverQuota of who asked for it."""
    if not _won(session, task, decision, reason=reason, decided_by=decided_by):
        return False
    about = {"reason": reason, **task_terms.decided_on(task)}
    if decision == Decision.APPROVE:
        task_events.append(session, "task.approved", task, decided_by=decided_by, **about)
    else:
        task_events.append(session, "task.rejected", task, decided_by=decided_by, result=task.result, **about)
    _follow(session, task, decision)
    return True


def locked_vote(session: Session, task: AgentTask) -> Consensus | None:
    """Return the vote that decides on a task, if it awaits approval and was put to one; the task stays locked, so that nobody puts it to one now."""
    awaiting = select(AgentTask.id).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.AWAITING_APPROVAL).with_for_update()
    return _open_vote(session, task) if session.scalar(awaiting) is not None else None


def _open_vote(session: Session, task: AgentTask) -> Consensus | None:
    unsettled = or_(Consensus.state == ConsensusState.OPEN, Consensus.applied_at.is_(None))
    latest = select(Consensus).where(Consensus.task_id == task.id, unsettled).order_by(Consensus.created_at.desc()).limit(1)
    vote = session.scalars(latest).one_or_none()
    return vote if vote is not None and gates.counts(session, vote, task) else None


def _won(session: Session, task: AgentTask, decision: Decision, *, reason: str, decided_by: str) -> bool:
    if decision == Decision.APPROVE:
        outcome: Mapping[str, Any] = tasks.opened(task.reserved_for, start_at=task.start_at, timeout_s=task.timeout_s)
    else:
        result = {"rejected_by": decided_by, "reason": reason}
        outcome = {"status": TaskStatus.CANCELLED, "result": result, "completed_at": func.clock_timestamp()}
    # One statement, so that of many who decide at once one does, and what follows is done once.
    won = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status == TaskStatus.AWAITING_APPROVAL)
        .values(decided_by=decided_by, decision_reason=reason, **outcome)
        .returning(AgentTask.id)
    )
    session.refresh(task)
    return won is not None


def _follow(session: Session, task: AgentTask, decision: Decision) -> None:
    if decision == Decision.APPROVE:
        with on_behalf_of(session, task.created_by, trace_id=task.trace_id):
            tasks.begin(session, task)
            announcements.of_work(session, task)
    else:
        task_ends.end_parts(session, task)


def _decided_before(task: AgentTask, decision: Decision, reason: str, actor: str) -> AgentTask:
    """Return a task that the caller decided on in the same way. Raises Conflict for any other."""
    called = task.slug or task.id
    if task.decided_by is None:
        raise Conflict(f"task {called} is {task.status} and awaits no approval; look at it with federation_task_status")
    rejected = (task.result or {}).get("rejected_by") == task.decided_by
    if (task.decided_by, task.decision_reason, rejected) == (actor, reason, decision == Decision.REJECT):
        return task
    how = "rejected" if rejected else "approved"
    raise Conflict(f"task {called} was {how} by {task.decided_by} already, and is {task.status}; look at it with federation_task_status")


def deciders(session: Session, task: AgentTask) -> list[str]:
    """Return the agents who may decide on a task: of a role with the right, members of its conversation, not who asked for it."""
    may, own = rules().who_may(Right.APPROVE), rules().who_may(Right.APPROVE_OWN)
    query = select(Agent.name).where(Agent.role.in_(may), or_(Agent.name != task.created_by, Agent.role.in_(own))).order_by(Agent.name)
    if task.conversation_id != conversations.COMMONS:
        query = query.where(Agent.name.in_(select(Member.agent).where(Member.conversation_id == task.conversation_id)))
    return list(session.scalars(query))


def waits_for(session: Session, task: AgentTask) -> str | None:
    """Return in words whose decision a task awaits; None if it awaits none."""
    if task.status != TaskStatus.AWAITING_APPROVAL:
        return None
    if (vote := _open_vote(session, task)) is not None:
        return f"the vote {vote.slug or vote.id}"
    phase = phases.resting(session, Right.APPROVE, task.conversation_id)
    later = "" if phase is None else f", after the phase {phase}"
    if names := deciders(session, task):
        return f"the approval of {' or '.join(names)}{later}"
    of_roles = " or ".join(rules().who_may(Right.APPROVE)) or "an operator"
    return f"the approval of {of_roles}, of whom none is here{later}"


def waiting(session: Session) -> list[Awaiting]:
    """Return the tasks of the caller's conversations that await approval, the oldest first."""
    mine = select(Member.conversation_id).where(Member.agent == context(session).actor)
    visible = or_(AgentTask.conversation_id == conversations.COMMONS, AgentTask.conversation_id.in_(mine))
    query = select(AgentTask).where(AgentTask.status == TaskStatus.AWAITING_APPROVAL, visible).order_by(AgentTask.created_at).limit(MOST_SHOWN)
    return [
        Awaiting(
            task_id=task.id,
            slug=task.slug,
            conversation_id=task.conversation_id,
            description=task.description,
            terms=task_terms.terms(task),
            asked_by=task.created_by,
            asked_at=task.created_at,
            waits_for=deciders(session, task),
        )
        for task in session.scalars(query)
    ]


def _asked(names: Sequence[str]) -> str:
    return f"ask {' or '.join(names)}" if names else "ask an operator"
