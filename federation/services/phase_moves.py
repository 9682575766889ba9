"""How a conversation goes from phase to phase: on to the next one when what it asks for is so, back to any former one at any time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from federation.charter import Condition, Phase, Right
from federation.charter import charter as rules
from federation.errors import Conflict, InvalidInput, NotFound
from federation.services import announcements, assignments, charter, conversations, phases, tasks
from federation.services.assignments import RoleHeld
from federation.store import event_log, turns
from federation.store.behalf import on_behalf_of
from federation.store.context import context, notify
from federation.store.models.consensus import Consensus, ConsensusState
from federation.store.models.conversations import Conversation, ConversationPhase, Message, MessageType
from federation.store.models.executions import Execution
from federation.store.models.tasks import ENDED, AgentTask, Executor, TaskStatus

# So many members must have spoken before a discussion counts as one.
SPEAKERS = 2
# What is said in passing, or by the program, is no contribution.
_SPOKEN = (MessageType.CHAT, MessageType.FINDING, MessageType.ACTION, MessageType.REQUEST, MessageType.RESPONSE)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a conversation stands, and what it takes to go on."""

    conversation_id: str
    phase: Annotated[Phase | None, Field(description="Null: nobody has moved it, and no rule depends on a phase.")]
    since: datetime | None
    moved_by: str | None
    reason: Annotated[str, Field(description="Why it was moved there.")]
    next: Annotated[Phase | None, Field(description="Where it can go on to; it can go back to any former one.")]
    missing: Annotated[Sequence[str], Field(description="What must be so before that.")]
    rests: Annotated[Sequence[Right], Field(description="Rights that nobody has in it meanwhile.")]
    holds: Annotated[Sequence[str], Field(description="Kinds of work that are not begun in it meanwhile.")]
    roles: Annotated[Sequence[RoleHeld], Field(description="Who was designated for which role.")]


def standing(session: Session, conversation_id: str) -> Standing:
    """Return where a conversation of the caller's stands. Raises NotFound."""
    _require_there(session, conversation_id)
    found = phases.current(session, conversation_id)
    now = None if found is None else Phase(found.phase)
    ahead = _next(now)
    meanwhile = None if now is None else rules().phase(now)
    return Standing(
        conversation_id=conversation_id,
        phase=now,
        since=found.created_at if found else None,
        moved_by=found.created_by if found else None,
        reason=found.reason if found else "",
        next=ahead,
        missing=[] if ahead is None else _missing(session, conversation_id, ahead),
        rests=sorted(meanwhile.rests) if meanwhile else [],
        holds=sorted(meanwhile.holds) if meanwhile else [],
        roles=assignments.roles(session, conversation_id),
    )


def move(session: Session, conversation_id: str, to: str, *, reason: str = "") -> ConversationPhase:
    """Move a conversation on to its next phase, or back to a former one; where it is already, nothing changes.

    What was approved and held until now begins. Raises Refused for who may not, NotFound, Conflict where a phase is left out or something is
    missing, InvalidInput, RateLimited.
    """
    if to not in set(Phase):
        raise InvalidInput("phase", to, "one of " + ", ".join(Phase))
    wanted = Phase(to)
    _require_there(session, conversation_id)
    charter.require(session, Right.MOVE, instead="ask one of them.")
    turns.take(session, phases.turn(conversation_id))
    former = phases.current(session, conversation_id)
    now = None if former is None else Phase(former.phase)
    if former is not None and now is wanted:
        return former
    _require_way(session, conversation_id, now, wanted)
    number = 1 if former is None else former.number + 1
    actor = context(session).actor
    moved = ConversationPhase(conversation_id=conversation_id, number=number, phase=wanted, reason=reason, created_by=actor)
    session.add(moved)
    session.flush()
    payload = {"number": number, "phase": wanted, "former": now, "reason": reason}
    event_log.append(session, "conversation.moved", f"conversation:{conversation_id}", payload=payload, conversation_id=conversation_id)
    notify(session, [f"phase:{conversation_id}"])
    announcements.of_phase(session, moved)
    _begin_held(session, conversation_id, wanted)
    return moved


def _require_there(session: Session, conversation_id: str) -> None:
    if charter.is_agent(context(session).actor):
        conversations.require_member(session, conversation_id)
    elif session.get(Conversation, conversation_id) is None:
        raise NotFound("conversation", conversation_id, session.scalars(select(Conversation.id).limit(1000)))


def _next(now: Phase | None) -> Phase | None:
    place = 0 if now is None else phases.ORDER.index(now) + 1
    return phases.ORDER[place] if place < len(phases.ORDER) else None


def _require_way(session: Session, conversation_id: str, now: Phase | None, wanted: Phase) -> None:
    """Pass if it goes from the one to the other. Raises Conflict."""
    if now is not None and phases.ORDER.index(wanted) < phases.ORDER.index(now):
        return
    ahead = _next(now)
    if wanted is not ahead:
        raise Conflict(f"{conversation_id} is in {'no phase' if now is None else f'its phase {now}'}; {ahead} comes before {wanted}")
    if missing := _missing(session, conversation_id, wanted):
        raise Conflict(f"{conversation_id} goes on to {wanted} when {', and '.join(missing)}")


def _missing(session: Session, conversation_id: str, wanted: Phase) -> list[str]:
    """Return in words what must be so before a phase and is not."""
    asked = rules().phase(wanted).enter
    checked = ((condition, _CONDITIONS[condition]) for condition in Condition if condition in asked)
    return [words for _, (words, holds) in checked if not holds(session, conversation_id)]


def _round_began(session: Session, conversation_id: str) -> datetime | None:
    return session.scalar(
        select(func.max(ConversationPhase.created_at)).where(
            ConversationPhase.conversation_id == conversation_id, ConversationPhase.phase == Phase.PROPOSE
        )
    )


def _proposed(session: Session, conversation_id: str) -> bool:
    since = _round_began(session, conversation_id)
    asked = exists().where(AgentTask.conversation_id == conversation_id, AgentTask.requires_approval, AgentTask.created_at >= since)
    said = exists().where(Message.conversation_id == conversation_id, Message.message_type == MessageType.ACTION, Message.created_at >= since)
    voted = exists().where(Consensus.conversation_id == conversation_id, Consensus.created_at >= since)
    return bool(session.scalar(select(asked | said | voted)))


def _discussed(session: Session, conversation_id: str) -> bool:
    now = phases.current(session, conversation_id)
    if now is None:
        return False
    speakers = select(func.count(Message.sender.distinct())).where(
        Message.conversation_id == conversation_id,
        Message.recipient.is_(None),
        Message.message_type.in_(_SPOKEN),
        Message.created_at >= now.created_at,
    )
    return (session.scalar(speakers) or 0) >= SPEAKERS


def _decided(session: Session, conversation_id: str) -> bool:
    since = _round_began(session, conversation_id)
    of_it, votes = AgentTask.conversation_id == conversation_id, Consensus.conversation_id == conversation_id
    approved = exists().where(of_it, AgentTask.decided_by.is_not(None), AgentTask.created_at >= since)
    voted = exists().where(votes, Consensus.state == ConsensusState.DECIDED, Consensus.created_at >= since)
    awaiting = exists().where(of_it, AgentTask.status == TaskStatus.AWAITING_APPROVAL)
    is_open = exists().where(votes, Consensus.state == ConsensusState.OPEN)
    return bool(session.scalar(select((approved | voted) & ~awaiting & ~is_open)))


def _done(session: Session, conversation_id: str) -> bool:
    return not session.scalar(select(exists().where(AgentTask.conversation_id == conversation_id, AgentTask.status.not_in(ENDED))))


_CONDITIONS: Mapping[Condition, tuple[str, Callable[[Session, str], bool]]] = {
    Condition.PROPOSED: ("something was proposed in it: a task with requires_approval=true, an action, or a vote", _proposed),
    Condition.DISCUSSED: (f"{SPEAKERS} members or more have said something to all in it", _discussed),
    Condition.DECIDED: ("something was decided in it, by an approval or a vote, and nothing awaits a decision", _decided),
    Condition.DONE: ("all its tasks have ended", _done),
}


def _begin_held(session: Session, conversation_id: str, phase: Phase) -> None:
    """Send to nodes what was to begin in a former phase that held it, in the name of who asked for it."""
    sent = exists().where(Execution.agent_task_id == AgentTask.id)
    held = select(AgentTask).where(
        AgentTask.conversation_id == conversation_id,
        AgentTask.executor == Executor.NODE,
        AgentTask.status == TaskStatus.PENDING,
        AgentTask.task_type.not_in(rules().phase(phase).holds),
        ~sent,
    )
    for task in session.scalars(held.order_by(AgentTask.created_at)).all():
        with on_behalf_of(session, task.created_by, trace_id=task.trace_id):
            tasks.send_to_node(session, task)
