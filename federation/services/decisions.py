"""The end of a vote: counted once, by the program's own role, while no ballot can be cast; its outcome opens or closes the gate of a task."""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from federation.consensus.ballots import Outcome
from federation.consensus.tally import tally
from federation.errors import Conflict, FederationError
from federation.services import announcements, approvals, consensus, gates, votes
from federation.services.approvals import Decision
from federation.store import event_log, turns
from federation.store.among import none_of
from federation.store.context import context, notify
from federation.store.models.consensus import Consensus, ConsensusState, StoredBallot
from federation.store.models.tasks import AgentTask

# Of what is over, at most so many in one look.
AT_ONCE = 200
_IS_DUE = or_(
    (Consensus.state == ConsensusState.OPEN) & (Consensus.deadline <= func.clock_timestamp()),
    (Consensus.state != ConsensusState.OPEN) & Consensus.task_id.is_not(None) & Consensus.applied_at.is_(None),
)
# With how many ballots there are. Made once, because it is asked after each of them.
_CAST = select(func.count()).where(StoredBallot.consensus_id == Consensus.id, StoredBallot.revision == Consensus.revision)
_STANDS = select(Consensus, _CAST.correlate(Consensus).scalar_subquery(), func.clock_timestamp()).where(Consensus.id == bindparam("vote"))
# With the event that tells of it.
_CLOSE = event_log.together(
    """
    closed AS (
        UPDATE consensus SET state = :state, outcome = CAST(:outcome AS jsonb), closed_at = :closed_at, updated_by = :actor WHERE id = :id
    )
    """
)
# Part of a query: whether any are due.
ANY_DUE = select(Consensus.id).where(_IS_DUE).exists()


def settle(session: Session, consensus_id: uuid.UUID) -> Consensus:
    """End a vote if it is over, and carry out what it decided; does nothing else, however often it is called. For the program alone."""
    return still_open(session, consensus_id) or end(session, consensus_id)


def still_open(session: Session, consensus_id: uuid.UUID) -> Consensus | None:
    """Return a vote that goes on, None for one that may be over; waits for nobody, and needs no transaction. For the program alone.

    Of all whose ballots are cast at once, the last to commit sees those of the others.
    """
    row = session.execute(_STANDS, {"vote": consensus_id}, execution_options={"populate_existing": True}).one()
    vote: Consensus = row[0]
    cast: int = row[1]
    now: datetime = row[2]
    if vote.state != ConsensusState.OPEN or now >= vote.deadline or cast == len(vote.proposal["electorate"]):
        return None
    return vote if not vote.proposal["early"] or _ended(session, vote, now) is None else None


def end(session: Session, consensus_id: uuid.UUID) -> Consensus:
    """Do as `settle`, for a vote that may be over: its ballots are counted once, with the turn."""
    vote, now = _in_turn(session, consensus_id)
    if vote.state == ConsensusState.OPEN and (found := _ended(session, vote, now)) is not None:
        _close(session, vote, ConsensusState.UNDECIDED if found.winner is None else ConsensusState.DECIDED, found.as_json(), now)
        announcements.of_outcome(session, vote)
    if vote.state != ConsensusState.OPEN and vote.task_id is not None and vote.applied_at is None:
        _apply(session, vote, vote.task_id)
    return vote


def _ended(session: Session, vote: Consensus, now: datetime) -> Outcome | None:
    """Return what the ballots come to, if the vote is over; else None."""
    found = tally(consensus.rules_of(vote), votes.counted(session, vote))
    is_over = now >= vote.deadline or not found.outstanding or (vote.proposal["early"] and found.fixed)
    return found if is_over else None


def withdraw(session: Session, vote: Consensus, *, reason: str) -> Consensus:
    """End a vote without an outcome, for an operator; a task that it was about awaits approval as before. Raises Conflict for one that is closed."""
    _, now = _in_turn(session, vote.id)
    if vote.state != ConsensusState.OPEN:
        raise Conflict(f"vote {consensus.called(vote)} is {vote.state} already")
    _close(session, vote, ConsensusState.WITHDRAWN, {"withdrawn_by": context(session).actor, "reason": reason}, now)
    announcements.of_outcome(session, vote)
    if vote.task_id is not None:
        _applied(session, vote, effect=None)
    return vote


def _in_turn(session: Session, consensus_id: uuid.UUID) -> tuple[Consensus, datetime]:
    """Take the turn of a vote; return it as it stands then, and PostgreSQL's time, before which all was cast that is counted now."""
    turns.take(session, consensus.turn(consensus_id))
    row = session.execute(_STANDS, {"vote": consensus_id}, execution_options={"populate_existing": True}).one()
    vote: Consensus = row[0]
    now: datetime = row[2]
    return vote, now


def _close(session: Session, vote: Consensus, state: ConsensusState, outcome: Mapping[str, Any], now: datetime) -> None:
    who = context(session)
    stands = {"state": state, "outcome": dict(outcome), "closed_at": now}
    payload = {"consensus_id": vote.id, "revision": vote.revision, "state": state, "outcome": outcome}
    event_log.append(session, "consensus.closed", f"consensus:{vote.id}", payload=payload, conversation_id=vote.conversation_id)
    # Open it is, and nobody else changes it meanwhile: the caller has its turn.
    event_log.write(session, _CLOSE, id=vote.id, actor=who.actor, **stands | {"outcome": json.dumps(stands["outcome"])})
    for name, value in stands.items():
        set_committed_value(vote, name, value)
    notify(session, [consensus.stream(vote)])


def _apply(session: Session, vote: Consensus, task_id: uuid.UUID) -> None:
    """Open or close the gate; what cannot be done now is left to the next look, and undoes nothing of the end of the vote."""
    approved = vote.state == ConsensusState.DECIDED and (vote.outcome or {}).get("winner") == Decision.APPROVE
    decision = Decision.APPROVE if approved else Decision.REJECT
    who = context(session)
    before, recorded = (who.actor, who.trace_id), len(who.outbox)
    attempt = event_log.attempt(session)
    try:
        task = session.get_one(AgentTask, task_id)
        reason = f"by the vote {consensus.called(vote)}: {_in_words(vote)}"
        counts = gates.counts(session, vote, task)
        done = counts and approvals.settle_by_vote(session, task, decision, reason=reason, decided_by=f"consensus:{vote.id}")
        _applied(session, vote, effect=decision if done else None)
        attempt.commit()
    except FederationError:
        # Such as a quota of who asked for the task. It undoes the rows, and the name that the database knows.
        attempt.rollback()
        who.actor, who.trace_id = before
        del who.outbox[recorded:]
        session.expire_all()
        session.refresh(vote)


def _in_words(vote: Consensus) -> str:
    outcome = vote.outcome or {}
    count = ", ".join(f"{option} {votes_}" for option, votes_ in outcome.get("votes", {}).items()) or "no votes"
    return f"{count} of {len(vote.proposal['electorate'])}" + (f" ({outcome['reason']})" if outcome.get("reason") else "")


def _applied(session: Session, vote: Consensus, *, effect: str | None) -> None:
    session.execute(update(Consensus).where(Consensus.id == vote.id).values(applied_at=func.clock_timestamp()))
    payload = {"consensus_id": vote.id, "task_id": vote.task_id, "effect": effect, "applied": True}
    event_log.append(session, "consensus.applied", f"consensus:{vote.id}", payload=payload, conversation_id=vote.conversation_id)
    session.refresh(vote)
    notify(session, [consensus.stream(vote)])


def due(session: Session, *, but: Collection[uuid.UUID] = ()) -> Sequence[uuid.UUID]:
    """Return the votes whose time is over, and those whose outcome could not be carried out so far, but for these."""
    query = select(Consensus.id).where(_IS_DUE, none_of(Consensus.id, but))
    return session.scalars(query.order_by(Consensus.deadline).limit(AT_ONCE)).all()
