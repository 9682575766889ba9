"""Actions of a session: proposed by who takes part, approved by the session's voters or at the gate, then claimed and done as any task."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from federation.consensus.ballots import ABSTAIN
from federation.errors import Conflict, InvalidInput, NotFound
from federation.services import (
    agents,
    announcements,
    approvals,
    charter,
    consensus,
    consensus_results,
    envelopes,
    gates,
    sessions,
    task_terms,
    tasks,
    votes,
)
from federation.services.actions import WORK
from federation.services.approvals import Decision
from federation.services.electorates import DEFAULT_S, Asked
from federation.services.resources import of_task
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.claims import Claim
from federation.store.models.consensus import Consensus, ConsensusState
from federation.store.models.sessions import AgentSession
from federation.store.models.tasks import BEGUN, AgentTask, Executor, TaskStatus

# As the patterns have it, to what the gate of a task knows.
# Of the latest; each has its description.
MOST_SHOWN = 20
RESPONSES = {"yes": str(Decision.APPROVE), "no": str(Decision.REJECT), "abstain": ABSTAIN}
_MOST_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What somebody wants done in a session; `agent` is the one who shall do it, None: whoever claims it."""

    content: str
    type: str
    target: str | None = None
    parameters: Mapping[str, Any] | None = None
    agent: str | None = None
    requires_approval: bool = True
    timeout_s: float = DEFAULT_S
    # Else everybody is heard, as the patterns show: also who abstains when enough are for it.
    early: bool = False


@dataclass(frozen=True, slots=True)
class VoteView:
    """How the vote on an action stands."""

    consensus_id: uuid.UUID
    options_hash: Annotated[str, Field(description="Give it to swarm_vote when you have read the action.")]
    state: ConsensusState
    deadline: datetime
    voted: list[str]
    votes_for: Annotated[int | float | None, Field(description="Null: hidden until the end.")]
    votes_against: int | float | None
    abstentions: int | None


@dataclass(frozen=True, slots=True)
class ActionView:
    """An action, and where it stands."""

    action_id: uuid.UUID
    slug: str | None
    agent: Annotated[str, Field(description="Who proposed it.")]
    action: str
    type: str | None
    target: str | None
    parameters: dict[str, Any]
    status: TaskStatus
    assigned_to: str | None
    waiting_for: Annotated[str | None, Field(description="Whose approval it awaits.")]
    vote: Annotated[VoteView | None, Field(description="Null: not put to the vote.")]
    result: dict[str, Any] | None


def propose(session: Session, reference: str, said: Proposed, *, slug: str | None = None, conversation_id: str | None = None) -> AgentTask:
    """Record an action, and put it to the session's voters, or ask who may decide on it; one that requires no approval is for whoever claims it.

    Proposed again by its author under the same slug it is the action that is there. Raises NotFound, Refused for who has not joined and for what
    the charter does not let the caller do, Conflict, InvalidInput, OverQuota, RateLimited.
    """
    form = {"type": said.type, "parameters": dict(said.parameters or {})} | ({} if said.target is None else {"target": said.target})
    checked = envelopes.checked(envelopes.Action, form)
    found = sessions.find(session, reference, conversation_id=conversation_id)
    sessions.enter(session, found)
    task = tasks.delegate(
        session,
        said.content,
        task_type=WORK[checked.type],
        executor=Executor.AGENT,
        agent=said.agent,
        parameters=checked.model_dump(mode="json", include={"type", "target", "parameters"}, exclude_none=True),
        conversation_id=found.conversation_id,
        slug=slug,
        requires_approval=said.requires_approval,
        session_id=found.id,
    )
    # One that was there already has been announced, and put to the vote, by the call that made it.
    if task.trace_id != context(session).trace_id:
        return task
    left = said.requires_approval and gates.is_left_to_voters(session, found, proposer=task.created_by)
    vote = _put_to_the_vote(session, found, task, said) if left else None
    if vote is None and said.requires_approval:
        announcements.of_request(session, task, approvals.deciders(session, task))
    elif vote is None:
        announcements.of_work(session, task)
    payload = {
        "action_id": task.id,
        "session_id": found.id,
        "agent_id": task.created_by,
        "action": task.parameters,
        "description": task.description,
        "requires_approval": task.requires_approval,
        "consensus_id": None if vote is None else vote.id,
    }
    event_log.append(session, "action.proposed", f"session:{found.id}", payload=payload, **sessions.belonging(found))
    notify(session, [sessions.key(found.id)])
    return task


def _put_to_the_vote(session: Session, found: AgentSession, task: AgentTask, said: Proposed) -> Consensus:
    asked = Asked(
        question=said.content,
        voters=found.voters,
        timeout_s=said.timeout_s,
        early=said.early,
        task=str(task.id),
        conversation_id=found.conversation_id,
        left_to_voters=True,
    )
    return consensus.request(session, asked)


def action(session: Session, found: AgentSession, reference: str) -> AgentTask:
    """Return the action of this UUID or slug in a session. Raises NotFound with the nearest names."""
    try:
        task = tasks.find(session, reference, conversation_id=found.conversation_id)
    except NotFound as error:
        raise _no_action(session, found, reference) from error
    if task.session_id != found.id:
        raise _no_action(session, found, reference)
    return task


def _no_action(session: Session, found: AgentSession, reference: str) -> NotFound:
    known = select(AgentTask.slug, AgentTask.id).where(AgentTask.session_id == found.id).order_by(AgentTask.created_at.desc()).limit(1000)
    return NotFound("action", reference, [row.slug or str(row.id) for row in session.execute(known)])


def vote(
    session: Session,
    reference: str,
    action_id: str,
    response: str,
    *,
    options_hash: str,
    confidence: float | None = None,
    reason: str = "",
    conversation_id: str | None = None,
) -> votes.Cast:
    """Acknowledge what is voted on, by its hash, and cast the caller's ballot on an action: yes, no or abstain.

    Raises NotFound, Conflict for an action that is not put to the vote or decided, and as `consensus.acknowledge` and `votes.respond`.
    """
    if response not in RESPONSES:
        raise InvalidInput("vote", response, "one of " + ", ".join(RESPONSES))
    found = sessions.find(session, reference, conversation_id=conversation_id)
    task = action(session, found, action_id)
    if (on_it := vote_on(session, task)) is None:
        waits = approvals.waits_for(session, task)
        how = f"awaits {waits}" if waits else f"is {task.status}"
        raise Conflict(f"action {task.slug or task.id} is not put to the vote: it {how}; look at it with swarm_get_findings")
    consensus.acknowledge(session, str(on_it.id), options_hash, conversation_id=on_it.conversation_id)
    answer = [RESPONSES[response]]
    return votes.respond(session, str(on_it.id), answer, confidence=confidence, reason=reason, conversation_id=on_it.conversation_id)


def vote_on(session: Session, task: AgentTask) -> Consensus | None:
    """Return the latest vote on a task, None if there is none."""
    query = select(Consensus).where(Consensus.task_id == task.id).order_by(Consensus.created_at.desc()).limit(1)
    return session.scalars(query).one_or_none()


def claimable(session: Session, reference: str, *, conversation_id: str | None = None) -> list[AgentTask]:
    """Return what is to be done in a session and held by nobody, as far as it may be the caller's: the most urgent first, then the oldest."""
    found = sessions.find(session, reference, conversation_id=conversation_id)
    actor = context(session).actor
    held = (
        select(Claim.resource)
        .where(Claim.resource == func.concat(of_task("").name, AgentTask.id), Claim.released_at.is_(None), Claim.expires_at > func.clock_timestamp())
        .exists()
    )
    meant = func.coalesce(AgentTask.handed_to, AgentTask.reserved_for)
    query = (
        select(AgentTask)
        .where(AgentTask.session_id == found.id, AgentTask.executor == Executor.AGENT, ~held)
        .where(AgentTask.status.in_(BEGUN))
        .where(or_(meant.is_(None), meant == actor))
        .order_by(AgentTask.priority.desc(), AgentTask.created_at)
        .limit(_MOST_CANDIDATES)
    )
    role = agents.role_of(session, actor) if charter.is_agent(actor) else None
    return [task for task in session.scalars(query) if task_terms.role_for(task) in {None, role}]


def standing(session: Session, found: AgentSession) -> list[tuple[uuid.UUID, str]]:
    """Return where the latest actions of a session stand, in no more words."""
    query = select(AgentTask.id, AgentTask.status).where(AgentTask.session_id == found.id).order_by(AgentTask.created_at.desc()).limit(MOST_SHOWN)
    return [(row.id, row.status) for row in session.execute(query)]


def views(session: Session, found: AgentSession) -> Sequence[ActionView]:
    """Return the latest actions of a session, the oldest first."""
    query = select(AgentTask).where(AgentTask.session_id == found.id).order_by(AgentTask.created_at.desc()).limit(MOST_SHOWN)
    return [view(session, task) for task in reversed(session.scalars(query).all())]


def view(session: Session, task: AgentTask) -> ActionView:
    """Return an action, with its vote as far as the caller may see it."""
    said = task.parameters or {}
    on_it = vote_on(session, task)
    return ActionView(
        action_id=task.id,
        slug=task.slug,
        agent=task.created_by,
        action=task.description,
        type=said.get("type"),
        target=said.get("target"),
        parameters=said.get("parameters", {}),
        status=TaskStatus(task.status),
        assigned_to=task.assigned_to,
        waiting_for=approvals.waits_for(session, task),
        vote=None if on_it is None else vote_view(session, on_it),
        result=task.result,
    )


def vote_view(session: Session, on_it: Consensus) -> VoteView:
    """Return how the vote on an action stands, as far as the caller may see it."""
    counted: Mapping[str, int | float] | None
    if on_it.state == ConsensusState.OPEN:
        found = consensus_results.results(session, on_it)
        counted, abstained = found.votes, found.abstained
    else:
        outcome = on_it.outcome or {}
        counted, abstained = outcome.get("votes", {}), outcome.get("abstained")
    return VoteView(
        consensus_id=on_it.id,
        options_hash=on_it.options_hash,
        state=ConsensusState(on_it.state),
        deadline=on_it.deadline,
        voted=consensus.voted(session, on_it),
        votes_for=None if counted is None else counted.get(Decision.APPROVE, 0),
        votes_against=None if counted is None else counted.get(Decision.REJECT, 0),
        abstentions=abstained,
    )
