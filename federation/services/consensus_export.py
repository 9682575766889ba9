"""A closed vote as a document for a stranger: the proposal, the ballots with their statements, the keys, and the outcome."""

import base64
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.errors import Conflict
from federation.security.decision_file import TYPE
from federation.services import agent_keys, consensus, votes
from federation.store.models.consensus import Acknowledgement, Consensus, ConsensusState
from federation.store.models.statements import SignedStatement


def exported(session: Session, vote: Consensus) -> dict[str, Any]:
    """Return the document. Raises Conflict for a vote that is open: it would tell what is hidden."""
    if vote.state == ConsensusState.OPEN:
        raise Conflict(f"vote {consensus.called(vote)} is open until {vote.deadline.isoformat(timespec='seconds')}; export it when it is closed")
    ballots = consensus.ballots(session, vote)
    asked = f"consensus:{vote.id}:{vote.revision}"
    stated = _statements(session, [asked, *(votes.subject(vote, one["agent"]) for one in vote.proposal["electorate"])])
    by_digest = {one.digest: one for one in stated}
    cast = {ballot.digest for ballot in ballots}
    acks = select(Acknowledgement).where(Acknowledgement.consensus_id == vote.id, Acknowledgement.revision == vote.revision)
    return {
        "type": TYPE,
        "consensus_id": str(vote.id),
        "slug": vote.slug,
        "proposal": vote.proposal,
        "options_hash": vote.options_hash,
        "opened_at": vote.created_at.isoformat(),
        "closed_at": vote.closed_at and vote.closed_at.isoformat(),
        "state": vote.state,
        "outcome": vote.outcome,
        "request": next((_signed(one) for one in stated if one.subject == asked), None),
        "acknowledgements": [
            {"agent": one.actor, "options_hash": one.options_hash, "at": one.created_at.isoformat()}
            for one in session.scalars(acks.order_by(Acknowledgement.actor))
        ],
        "ballots": [
            {
                "voter": one.actor,
                "response": one.response,
                "confidence": one.confidence,
                "reason": one.reason,
                "cast_at": one.created_at.isoformat(),
                **(_signed(by_digest[one.digest]) if one.digest in by_digest else {"statement": None, "signature": None}),
            }
            for one in ballots
        ],
        "contraries": [
            {"voter": one.actor, "at": one.created_at.isoformat(), **_signed(one)}
            for one in stated
            if one.action == votes.ACTION and one.digest not in cast
        ],
        "keys": _keys(session, sorted({one.key for one in stated})),
    }


def _statements(session: Session, subjects: list[str]) -> list[SignedStatement]:
    query = select(SignedStatement).where(SignedStatement.subject.in_(subjects))
    return list(session.scalars(query.order_by(SignedStatement.created_at, SignedStatement.digest)))


def _signed(one: SignedStatement) -> dict[str, str]:
    return {"statement": one.statement, "signature": base64.b64encode(one.signature).decode()}


def _keys(session: Session, identities: list[str]) -> list[dict[str, Any]]:
    found = []
    for identity in identities:
        known = agent_keys.whose(session, identity)
        if known is not None:
            ended = known.revoked_at and known.revoked_at.isoformat()
            found.append({"identity": identity, "owner": known.owner, "public_key": known.public_key, "revoked_at": ended})
    return found
