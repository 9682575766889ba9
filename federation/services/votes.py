"""Ballots: each voter casts one, once he has acknowledged what is voted on; its contrary is refused, and kept as evidence if it is signed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, select, text
from sqlalchemy.orm import Session

from federation.consensus.ballots import BadBallot, Ballot
from federation.consensus.tally import heard, ordered, spoken
from federation.errors import Conflict, InvalidInput, Refused
from federation.security.statements import Mode
from federation.services import consensus, statements
from federation.services.statements import Heard
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.consensus import Acknowledgement, Consensus, ConsensusState, StoredBallot
from federation.store.models.statements import SignedStatement

ACTION = "consensus.vote"
# Made once, because each ballot wants it: the vote as it is now, whether the caller has acknowledged it, and his ballot.
_ME: Any = bindparam("me")
_ACKNOWLEDGED = (Acknowledgement.consensus_id == Consensus.id, Acknowledgement.revision == Consensus.revision, Acknowledgement.actor == _ME)
_VOTED = (StoredBallot.consensus_id == Consensus.id, StoredBallot.revision == Consensus.revision, StoredBallot.actor == _ME)
_STANDS = (
    select(Consensus, Acknowledgement.options_hash, StoredBallot)
    .outerjoin(Acknowledgement, and_(*_ACKNOWLEDGED))
    .outerjoin(StoredBallot, and_(*_VOTED))
    .where(Consensus.id == bindparam("vote"))
)
# With the events that tell of it.
_CAST = event_log.together(
    """
    ballot AS (
        INSERT INTO ballots (consensus_id, revision, actor, response, confidence, reason, choice, digest, created_at)
        VALUES (:consensus_id, :revision, :actor, CAST(:response AS jsonb), :confidence, :reason, :choice, :digest, :created_at)
    )
    """
)
# The ballots, and what their voters signed of the same before the deadline, in one journey.
_SAID = text(
    """
    SELECT actor, response, confidence, NULL AS choice FROM ballots WHERE consensus_id = :id AND revision = :revision
    UNION ALL
    SELECT actor, NULL, NULL, choice FROM statements WHERE subject = ANY(CAST(:subjects AS text[])) AND action = :action AND mode = :mode
        AND created_at <= :deadline
    """
)
_WHILE_OPEN = "while the vote is open neither counts"
_AFTER = "the vote had ended, and its outcome stands"


@dataclass(frozen=True, slots=True)
class Cast:
    """A ballot that counts; `mode` None: nobody signed or attested it."""

    vote: Consensus
    ballot: StoredBallot
    mode: Mode | None


def subject(vote: Consensus, voter: str) -> str:
    """Return what statements of a voter about his ballot are about; also the stream of its events, so that voters do not wait for each other."""
    return f"consensus:{vote.id}:{vote.revision}:{voter}"


def respond(
    session: Session,
    reference: str,
    response: Sequence[str] | None,
    *,
    confidence: float | None = None,
    reason: str = "",
    conversation_id: str | None = None,
) -> Cast:
    """Cast the caller's ballot: one option, several where the mechanism takes them, or none, which abstains; the same again changes nothing.

    Raises NotFound, Refused for who is no voter, has not acknowledged the present proposal or has not signed where that is demanded, Conflict for
    a second ballot or a vote that is closed, Equivocation for the signed contrary of what the caller signed before, InvalidInput.
    """
    me = context(session).actor
    # So that nobody ends or changes it before the commit, nor casts the same ballot; read after that, as it stands then.
    asked = {"vote": consensus.share(session, reference, conversation_id=conversation_id), "me": me}
    vote, read, former = session.execute(_STANDS, asked, execution_options={"populate_existing": True}).one()
    consensus.require_voter(session, vote)
    if response is None:
        raise InvalidInput("response", None, f"an option, or choices: {', '.join(vote.proposal['options'])}; or abstain")
    if confidence is not None and not 0 <= confidence <= 1:
        raise InvalidInput("confidence", confidence, "0 (a guess) to 1 (sure)")
    rules = consensus.rules_of(vote)
    try:
        choice = ordered(rules, response)
    except BadBallot as error:
        raise InvalidInput("response", response[0] if len(response) == 1 else list(response), str(error)) from error
    ballot = {"response": list(choice), "confidence": confidence, "reason": reason}
    word = spoken(rules, choice)
    said = statements.say(
        session,
        action=ACTION,
        choice=word,
        subject=subject(vote, me),
        content={"options_hash": vote.options_hash, **ballot},
        demanded=Mode.SIGNED if vote.proposal["signed"] else Mode.ATTESTED,
        proposal=vote.proposal,
    )
    if former is not None:
        return _again(session, vote, former, ballot, said)
    _require_acknowledged(vote, read)
    row = {"consensus_id": vote.id, "revision": vote.revision, "actor": me, **ballot, "choice": word, "digest": said and said.signed.digest}
    # Not the moment of the insertion, which may come after the deadline.
    row["created_at"] = consensus.require_open(session, vote)
    statements.keep(session, said, conversation_id=vote.conversation_id)
    payload = {
        "consensus_id": vote.id,
        "revision": vote.revision,
        "options_hash": vote.options_hash,
        "choice": word,
        "response": list(choice),
        "confidence": confidence,
        "reason": reason,
        "digest": row["digest"],
    }
    event_log.append(session, "consensus.voted", subject(vote, me), payload=payload, conversation_id=vote.conversation_id)
    event_log.write(session, _CAST, **row | {"response": json.dumps(ballot["response"])})
    notify(session, [consensus.stream(vote)])
    return Cast(vote, StoredBallot(**row), None if said is None else said.statement.mode)


def _require_acknowledged(vote: Consensus, options_hash: str | None) -> None:
    if options_hash != vote.options_hash:
        read = "it was changed since you read it: read it anew with" if vote.revision > 1 else "read it with"
        called = consensus.called(vote)
        then = f"federation_consensus_results, then acknowledge its options_hash with federation_consensus_acknowledge('{called}', options_hash=…)."
        raise Refused(consensus.SEE_FIRST, f"you have not acknowledged what vote {called} is about; {read} {then}")


def _again(session: Session, vote: Consensus, former: StoredBallot, ballot: dict[str, Any], said: Heard | None) -> Cast:
    """Return the ballot that is there, if it is this one. Raises Equivocation, Conflict."""
    if all(getattr(former, name) == value for name, value in ballot.items()):
        return Cast(vote, former, _mode(session, former))
    is_open = vote.state == ConsensusState.OPEN and context(session).now() < vote.deadline
    follows = _WHILE_OPEN if is_open else _AFTER
    statements.keep_contrary(session, said, conversation_id=vote.conversation_id, follows=follows)
    raise Conflict(f"you voted {former.choice!r} in {consensus.called(vote)} already; a ballot is cast once, and that one stands")


def _mode(session: Session, ballot: StoredBallot) -> Mode | None:
    mode = session.scalar(select(SignedStatement.mode).where(SignedStatement.digest == ballot.digest)) if ballot.digest else None
    return None if mode is None else Mode(mode)


def contraries(session: Session, vote: Consensus) -> dict[str, list[SignedStatement]]:
    """Return for each voter who signed two ballots of the present revision his statements, in order; what the caller may see of them."""
    query = (
        select(SignedStatement)
        .where(SignedStatement.subject.in_(_subjects(vote)), SignedStatement.action == ACTION, SignedStatement.mode == Mode.SIGNED)
        .order_by(SignedStatement.actor, SignedStatement.created_at, SignedStatement.digest)
    )
    found: dict[str, list[SignedStatement]] = {}
    for one in session.scalars(query):
        found.setdefault(one.actor, []).append(one)
    return {voter: theirs for voter, theirs in found.items() if len({one.choice for one in theirs}) > 1}


def counted(session: Session, vote: Consensus) -> list[Ballot]:
    """Return the ballots of the present revision as they are counted, with the contraries that make some of them void."""
    rules = consensus.rules_of(vote)
    asked = {"id": vote.id, "revision": vote.revision, "subjects": _subjects(vote), "action": ACTION, "mode": Mode.SIGNED}
    asked["deadline"] = vote.deadline
    found, signed = list[Ballot](), dict[str, set[str]]()
    for voter, response, confidence, choice in session.execute(_SAID, asked):
        if choice is None:
            found.append(Ballot(voter, tuple(response), confidence))
        else:
            signed.setdefault(voter, set()).add(choice)
    contrary = [Ballot(voter, heard(rules, word)) for voter, theirs in signed.items() if len(theirs) > 1 for word in theirs]
    return [*found, *contrary]


def _subjects(vote: Consensus) -> list[str]:
    return [subject(vote, one["agent"]) for one in vote.proposal["electorate"]]
