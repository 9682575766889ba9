"""How a vote stands or ended, as its readers see it: what others voted is told after the end, or before it where it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.consensus.ballots import Reason, numbers
from federation.consensus.mechanisms import Name
from federation.consensus.tally import tally
from federation.security.statements import Mode
from federation.services import consensus, votes
from federation.store.models.consensus import Consensus, ConsensusState, StoredBallot
from federation.store.models.statements import SignedStatement


@dataclass(frozen=True, slots=True)
class BallotView:
    """What one voter voted."""

    voter: str
    response: Annotated[list[str], Field(description="Empty: an abstention.")]
    confidence: float | None
    reason: str
    mode: Annotated[Mode | None, Field(description="signed by the voter's own key, or attested by the part that knew the token.")]


@dataclass(frozen=True, slots=True)
class EquivocationView:
    """A voter who signed two ballots that contradict each other."""

    voter: str
    choices: list[str]
    statements: Annotated[list[str], Field(description="SHA-256 of each; federation audit equivocations shows them.")]


@dataclass(frozen=True, slots=True)
class Results:
    """How a vote stands, or how it ended."""

    winner: Annotated[str | None, Field(description="Null: none, or not yet.")]
    votes: Annotated[dict[str, int | float] | None, Field(description="Votes for each option that has some, weighed; null: hidden until the end.")]
    state: ConsensusState
    reason: Annotated[Reason | None, Field(description="Of undecided: no_quorum, too few took part; not_reached, no option has what it takes.")]
    consensus_id: UUID
    slug: str | None
    conversation_id: str
    question: str
    options: list[str]
    options_hash: Annotated[str, Field(description="Acknowledge it with federation_consensus_acknowledge when you have read this.")]
    revision: Annotated[int, Field(description="2 or more: question or options were changed; ballots before are void.")]
    mechanism: Name
    quorum: Annotated[int, Field(description="So many voters must take part.")]
    deadline: datetime
    voters: Annotated[dict[str, int | float], Field(description="Who may vote → weight.")]
    acknowledged: list[str]
    voted: list[str]
    abstained: int | None
    tied: Annotated[list[str], Field(description="Had as many votes as the winner, and were listed behind it.")]
    void: Annotated[list[str], Field(description="Voters whose signed ballots contradict each other; none of theirs counts.")]
    confidence: Annotated[float | None, Field(description="How sure those are who are for the winner, weighed.")]
    task_id: Annotated[UUID | None, Field(description="The task that the outcome lets begin or ends.")]
    ballots: Annotated[list[BallotView] | None, Field(description="Null: not asked for. While they are hidden only your own.")]
    proposal: Annotated[dict[str, Any] | None, Field(description="With the ballots: all that options_hash is the hash of, in the form of RFC 8785.")]
    equivocations: list[EquivocationView]


def results(session: Session, vote: Consensus, *, with_ballots: bool = False) -> Results:
    """Return how a vote stands, for a caller whose right to see it was looked at before; while it is hidden nothing is counted."""
    is_told = vote.shown or vote.state != ConsensusState.OPEN
    about = vote.proposal
    outcome: Mapping[str, Any] = vote.outcome or {}
    if vote.state == ConsensusState.OPEN and is_told:
        outcome = tally(consensus.rules_of(vote), votes.counted(session, vote)).as_json()
    is_over = vote.state != ConsensusState.OPEN
    return Results(
        winner=outcome.get("winner") if is_over else None,
        votes=_in_order(about["options"], outcome.get("votes", {})) if is_told else None,
        state=ConsensusState(vote.state),
        reason=Reason(outcome["reason"]) if vote.state == ConsensusState.UNDECIDED else None,
        consensus_id=vote.id,
        slug=vote.slug,
        conversation_id=vote.conversation_id,
        question=about["question"],
        options=about["options"],
        options_hash=vote.options_hash,
        revision=vote.revision,
        mechanism=Name(about["mechanism"]),
        quorum=about["quorum"],
        deadline=vote.deadline,
        voters=numbers({one["agent"]: one["weight"] for one in about["electorate"]}),
        acknowledged=consensus.acknowledged(session, vote),
        voted=consensus.voted(session, vote),
        abstained=outcome.get("abstained") if is_told else None,
        tied=outcome.get("tied", []) if is_over else [],
        void=outcome.get("void", []),
        confidence=outcome.get("confidence") if is_over else None,
        task_id=vote.task_id,
        ballots=shown(session, consensus.ballots(session, vote)) if with_ballots else None,
        proposal=about if with_ballots else None,
        equivocations=equivocations(session, vote),
    )


def _in_order(options: Sequence[str], counted: Mapping[str, float]) -> dict[str, int | float]:
    # JSON in PostgreSQL has no order.
    return {option: counted[option] for option in options if option in counted}


def shown(session: Session, ballots: Sequence[StoredBallot]) -> list[BallotView]:
    """Return ballots with who vouches for each."""
    digests = [ballot.digest for ballot in ballots if ballot.digest is not None]
    query = select(SignedStatement.digest, SignedStatement.mode).where(SignedStatement.digest.in_(digests))
    modes = {digest: Mode(mode) for digest, mode in session.execute(query)}
    return [BallotView(one.actor, one.response, one.confidence, one.reason, modes.get(one.digest or "")) for one in ballots]


def equivocations(session: Session, vote: Consensus) -> list[EquivocationView]:
    """Return who signed two ballots that contradict each other, as far as the caller may see it."""
    return [
        EquivocationView(voter, [one.choice for one in theirs], [one.digest for one in theirs])
        for voter, theirs in votes.contraries(session, vote).items()
    ]
