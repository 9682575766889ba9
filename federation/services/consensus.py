"""Votes: asked with voters, rules and an end that stay as they are, changed in question and options by their author, acknowledged by each voter."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import String, Uuid, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.consensus.ballots import Rules
from federation.consensus.proposal import BadProposal, rules
from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import agents, announcements, charter, conversations, electorates, statements
from federation.services.electorates import Asked
from federation.services.names import valid_slug
from federation.store import event_log, turns
from federation.store.context import context, notify
from federation.store.models.consensus import Acknowledgement, Consensus, ConsensusState, StoredBallot
from federation.store.models.conversations import Member

SEE_FIRST = "See all options before you vote:"
# What of a proposal is given anew at each request, and so is not compared; nor who the members are at that moment.
_GIVEN, _OF_MEMBERS = {"consensus_id", "deadline"}, {"electorate", "quorum"}

# Made once, because each ballot and acknowledgement looks for its vote.
_NAMED = or_(Consensus.slug == bindparam("slug"), Consensus.id == bindparam("identity", type_=Uuid()))
_MINE = select(Member.conversation_id).where(Member.agent == bindparam("me"))
_HERE = (_NAMED, or_(Consensus.conversation_id == conversations.COMMONS, Consensus.conversation_id.in_(_MINE)))
_THERE = (_NAMED, Consensus.conversation_id == bindparam("conversation"))
_FOUND, _FOUND_IN = select(Consensus).where(*_HERE), select(Consensus).where(*_THERE)
# Without what only the turn makes sure of.
_TURN = func.concat("vote ", Consensus.id)
_NAME = (
    Consensus.id,
    Consensus.slug,
    Consensus.conversation_id,
    turns.shared(_TURN),
    turns.taken(func.concat(_TURN, " ", bindparam("me", type_=String()))),
)
_SHARED, _SHARED_IN = select(*_NAME).where(*_HERE), select(*_NAME).where(*_THERE)
# Who may not see the ballots of others is told whose there are.
_VOTED = text("SELECT federation_voted(:id) AS name ORDER BY name")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """How many of the voters have the present proposal in hand."""

    vote: Consensus
    acknowledged: int
    voters: int


def turn(consensus_id: uuid.UUID) -> str:
    """Return the key of the turn that ballots of a vote share, and that who ends or changes it has alone."""
    return f"vote {consensus_id}"


def stream(vote: Consensus) -> str:
    """Return the stream of a vote's events."""
    return f"consensus:{vote.id}"


def called(vote: Consensus) -> str:
    """Return how agents call it."""
    return vote.slug or str(vote.id)


def rules_of(vote: Consensus) -> Rules:
    """Return the rules by which it is counted."""
    return rules(vote.proposal)


def request(session: Session, asked: Asked, *, slug: str | None = None) -> Consensus:
    """Ask for a vote, and tell its voters; asked again by its author under the same slug it is the vote that is there.

    Raises NotFound for an unknown agent, task or conversation, Conflict for a slug that is another vote's or a task that awaits no approval or is
    put to the vote already, Refused for what the charter does not let the caller do, InvalidInput, RateLimited.
    """
    agents.require(asked.question, "question")
    charter.require(session, Right.VOTE, instead="ask one of them to put it to the vote.")
    task = electorates.gate(session, asked)
    conversation_id = task.conversation_id if task is not None else asked.conversation_id or conversations.COMMONS
    charter.require(session, Right.VOTE, instead="wait.", where=conversation_id)
    for name in asked.voters or []:
        agents.get(session, name)
    conversations.open_for(session, conversation_id, asked.voters or [])
    identity = uuid.uuid4()
    ends: datetime = session.execute(select(func.date_trunc("milliseconds", func.clock_timestamp()) + asked.lasting)).scalar_one()
    about = electorates.proposal(session, asked, consensus_id=identity, conversation_id=conversation_id, ends=ends, task=task)
    valid(about)
    compared = about.keys() - _GIVEN - (_OF_MEMBERS if asked.voters is None else set())
    asked_again = {name: about[name] for name in about if name in compared}
    if slug is not None and (former := _asked_before(session, conversation_id, valid_slug("consensus_id", slug), asked_again)) is not None:
        return former
    if task is not None:
        electorates.require_undecided(session, task)
    digest = statements.hashed(about)
    said = statements.say(session, action="consensus.request", choice=digest, subject=f"consensus:{identity}:1", content=about)
    row: dict[str, Any] = {
        "id": identity,
        "conversation_id": conversation_id,
        "slug": slug,
        "proposal": about,
        "options_hash": digest,
        "shown": asked.shown,
        "task_id": task.id if task is not None else None,
        "deadline": ends,
        "created_by": context(session).actor,
        "trace_id": context(session).trace_id,
    }
    made = insert(Consensus).values(**row).on_conflict_do_nothing(index_elements=["conversation_id", "slug"]).returning(Consensus)
    vote = session.scalars(made).one_or_none()
    if vote is None:
        # Somebody was quicker by a moment.
        return _asked_before(session, conversation_id, slug or "", asked_again) or _gone(slug)
    statements.keep(session, said, conversation_id=conversation_id)
    payload = {
        "consensus_id": identity,
        "slug": slug,
        "revision": 1,
        "proposal": about,
        "options_hash": digest,
        "shown": asked.shown,
        "task_id": row["task_id"],
        "state": ConsensusState.OPEN,
        "outcome": None,
        "applied": False,
    }
    event_log.append(session, "consensus.requested", f"consensus:{identity}", payload=payload, conversation_id=conversation_id)
    announcements.of_vote(session, vote)
    return vote


def valid(about: Mapping[str, Any]) -> Rules:
    """Return the rules of a proposal. Raises InvalidInput."""
    try:
        return rules(about)
    except BadProposal as error:
        raise InvalidInput(error.field, error.got, error.wants) from error


def _asked_before(session: Session, conversation_id: str, slug: str, about: Mapping[str, Any]) -> Consensus | None:
    """Return the vote of this slug, None if there is none. Raises Conflict if it is another one."""
    former = session.scalars(select(Consensus).where(Consensus.conversation_id == conversation_id, Consensus.slug == slug)).one_or_none()
    if former is None:
        return None
    others = [name for name, value in about.items() if former.proposal.get(name) != value]
    if others:
        raise Conflict(
            f"vote {slug!r} exists in conversation {conversation_id} already, asked for by {former.created_by} ({', '.join(others)} differ); choose "
            "another consensus_id, look at it with federation_consensus_results, or, if it is yours, change question and options with replace=true"
        )
    return former


def _gone(slug: str | None) -> Consensus:
    raise Conflict(f"vote {slug!r} is being asked for by somebody else; choose another consensus_id")


def replace(session: Session, reference: str, question: str, options: Sequence[str] | None, *, conversation_id: str | None = None) -> Consensus:
    """Change question and options of a vote that the caller asked for: all ballots are void, and all voters acknowledge and vote anew.

    The same again changes nothing. Raises NotFound, Refused for a vote of another's, Conflict for one that is closed, InvalidInput, RateLimited.
    """
    agents.require(question, "question")
    vote = find(session, reference, conversation_id=conversation_id)
    if vote.created_by != context(session).actor:
        raise charter.refused("propose", f"vote {called(vote)} was asked for by {vote.created_by}: only they change it; ask them.")
    turns.take(session, turn(vote.id))
    session.refresh(vote)
    if vote.task_id is not None and options is not None and list(options) != vote.proposal["options"]:
        raise InvalidInput("options", list(options), "none, where the vote decides on a task: it is approved or rejected")
    changed = {"question": question, "options": vote.proposal["options"] if options is None else list(options)}
    if all(vote.proposal[name] == value for name, value in changed.items()):
        return vote
    require_open(session, vote)
    revision = vote.revision + 1
    about = {**vote.proposal, **changed, "revision": revision}
    valid(about)
    digest = statements.hashed(about)
    said = statements.say(session, action="consensus.request", choice=digest, subject=f"consensus:{vote.id}:{revision}", content=about)
    session.execute(update(Consensus).where(Consensus.id == vote.id).values(revision=revision, proposal=about, options_hash=digest))
    session.refresh(vote)
    statements.keep(session, said, conversation_id=vote.conversation_id)
    payload = {"consensus_id": vote.id, "revision": revision, "proposal": about, "options_hash": digest}
    event_log.append(session, "consensus.options_changed", f"consensus:{vote.id}", payload=payload, conversation_id=vote.conversation_id)
    notify(session, [stream(vote)])
    announcements.of_vote(session, vote)
    return vote


def find(session: Session, reference: str, *, conversation_id: str | None = None) -> Consensus:
    """Return the vote of this UUID or slug that the caller may see.

    Raises NotFound with the nearest names, also for an unknown conversation or a stranger's, Conflict for a slug that stands in several.
    """
    asked = _asked(session, reference, conversation_id)
    found = session.scalars(_FOUND if conversation_id is None else _FOUND_IN, asked).all()
    vote: Consensus = _meant(session, found, reference, conversation_id)
    return vote


def share(session: Session, reference: str, *, conversation_id: str | None = None) -> uuid.UUID:
    """Return the id of the vote that `find` finds, which nobody ends or changes before the commit, and in which the caller is at one thing at a time.

    Raises as that.
    """
    asked = _asked(session, reference, conversation_id)
    found = session.execute(_SHARED if conversation_id is None else _SHARED_IN, asked).all()
    identity: uuid.UUID = _meant(session, found, reference, conversation_id).id
    return identity


def _asked(session: Session, reference: str, conversation_id: str | None) -> dict[str, Any]:
    if conversation_id is not None:
        conversations.require_member(session, conversation_id)
    return {"slug": reference, "identity": _as_id(reference), "me": context(session).actor, "conversation": conversation_id}


def _meant(session: Session, found: Sequence[Any], reference: str, conversation_id: str | None) -> Any:
    if not found:
        mine = conversations.is_mine(session, Consensus.conversation_id) if conversation_id is None else Consensus.conversation_id == conversation_id
        latest = select(Consensus.slug, Consensus.id).where(mine).order_by(Consensus.created_at.desc())
        raise NotFound("vote", reference, [row.slug or str(row.id) for row in session.execute(latest.limit(1000))])
    by_id = [vote for vote in found if str(vote.id) == reference.lower()]
    if len(found) > 1 and not by_id:
        where = ", ".join(vote.conversation_id for vote in found)
        raise Conflict(f"vote {reference!r} stands in several conversations: {where}; name conversation_id too")
    return (by_id or found)[0]


def _as_id(reference: str) -> uuid.UUID | None:
    with suppress(ValueError):
        return uuid.UUID(reference)
    return None


def anywhere(session: Session, reference: str) -> list[Consensus]:
    """Return the votes of this id or name in all conversations, for an operator."""
    return list(session.scalars(select(Consensus).where(_NAMED).order_by(Consensus.created_at), {"slug": reference, "identity": _as_id(reference)}))


def latest(session: Session, *, only_open: bool = False, limit: int = 50) -> list[Consensus]:
    """Return the latest votes of all conversations, the newest first, for an operator."""
    query = select(Consensus).order_by(Consensus.created_at.desc()).limit(limit)
    return list(session.scalars(query.where(Consensus.state == ConsensusState.OPEN) if only_open else query))


def acknowledge(session: Session, reference: str, options_hash: str, *, conversation_id: str | None = None) -> Acknowledged:
    """Record that the caller has the present proposal in hand; the same again changes nothing.

    Raises NotFound, Refused for who is no voter or whose hash is another proposal's, Conflict for a vote that is closed.
    """
    vote = session.get_one(Consensus, share(session, reference, conversation_id=conversation_id), populate_existing=True)
    require_voter(session, vote)
    if options_hash != vote.options_hash:
        raise Refused(SEE_FIRST, f"this is not the hash of what vote {called(vote)} is about now; read it anew with federation_consensus_results.")
    actor = context(session).actor
    if session.get(Acknowledgement, (vote.id, vote.revision, actor)) is None:
        require_open(session, vote)
        row = {"consensus_id": vote.id, "revision": vote.revision, "actor": actor, "options_hash": options_hash}
        made = insert(Acknowledgement).values(**row).on_conflict_do_nothing().returning(Acknowledgement.actor)
        if session.scalar(made) is not None:
            payload = {"consensus_id": vote.id, "revision": vote.revision, "options_hash": options_hash}
            event_log.append(session, "consensus.acknowledged", f"consensus:{vote.id}", payload=payload, conversation_id=vote.conversation_id)
            notify(session, [stream(vote)])
    return Acknowledged(vote, len(acknowledged(session, vote)), len(vote.proposal["electorate"]))


def acknowledged(session: Session, vote: Consensus) -> list[str]:
    """Return who has acknowledged the present revision, in order of name."""
    query = select(Acknowledgement.actor).where(Acknowledgement.consensus_id == vote.id, Acknowledgement.revision == vote.revision)
    return list(session.scalars(query.order_by(Acknowledgement.actor)))


def ballots(session: Session, vote: Consensus) -> list[StoredBallot]:
    """Return the ballots of the present revision that the caller may see, in order of name."""
    query = select(StoredBallot).where(StoredBallot.consensus_id == vote.id, StoredBallot.revision == vote.revision)
    return list(session.scalars(query.order_by(StoredBallot.actor)))


def voted(session: Session, vote: Consensus) -> list[str]:
    """Return who has voted in the present revision, in order of name: that is told, whatever may be seen of the ballots."""
    if not charter.is_agent(context(session).actor):
        return [ballot.actor for ballot in ballots(session, vote)]
    return list(session.scalars(_VOTED, {"id": vote.id}))


def require_voter(session: Session, vote: Consensus) -> None:
    """Pass if the caller is one of the voters, who were fixed when it was asked. Raises Refused."""
    actor = context(session).actor
    names = [one["agent"] for one in vote.proposal["electorate"]]
    if actor not in names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise charter.refused("propose", f"{actor} is not among the voters of {called(vote)}, who were fixed when it was asked: {shown}.")


def require_open(session: Session, vote: Consensus) -> datetime:
    """Return the moment, at which it still takes ballots, for a caller who has its turn. Raises Conflict."""
    if vote.state != ConsensusState.OPEN:
        raise Conflict(f"vote {called(vote)} is {vote.state} already; read it with federation_consensus_results")
    now = context(session).now()
    if now >= vote.deadline:
        raise Conflict(f"vote {called(vote)} ended at {vote.deadline.isoformat(timespec='seconds')}; read it with federation_consensus_results")
    return now
