"""Sessions of several who look into one thing: begun with a context, joined by whoever sees them, completed once with an outcome."""

import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import agents, announcements, charter, conversations
from federation.services.names import valid_slug
from federation.store import event_log, turns
from federation.store.context import context, notify
from federation.store.models.conversations import Member
from federation.store.models.sessions import AgentSession, Category, Participant, SessionStatus

MOST_VOTERS = 100
LARGEST_WEIGHT = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What its initiator says of a session, and nobody changes: what it is about, who votes on its actions, and whose word weighs how much."""

    context: Mapping[str, Any] | None = None
    voters: Sequence[str] | None = None
    expertise: Mapping[str, float] | None = None


def turn(session_id: uuid.UUID) -> str:
    """Return the key of the turn that those who write into a session share, and that who adds to its context or completes it has alone."""
    return f"session {session_id}"


def key(session_id: uuid.UUID) -> str:
    """Return the notice that wakes those who wait for something new in it, which is the name of its stream too."""
    return f"session:{session_id}"


def called(found: AgentSession) -> str:
    """Return how agents call it."""
    return found.slug or str(found.id)


def join(session: Session, reference: str, start: Start, *, focus: str | None = None, conversation_id: str | None = None) -> AgentSession:
    """Take part in a session from now on, and say what one looks into; with a context begin it, if there is none of this name.

    The same again changes nothing; a context that says more is added. Raises NotFound for a session that is not there and not begun, Refused for
    what the charter does not let the caller do, Conflict for one that began otherwise or is completed, InvalidInput, RateLimited.
    """
    start = Start(context=start.context, voters=_valid_voters(session, start.voters), expertise=_valid_expertise(session, start.expertise))
    try:
        found = find(session, reference, conversation_id=conversation_id)
    except NotFound as error:
        # An id is given by the program, and a conversation may be new too.
        if start.context is None or error.kind not in {"session", "conversation"} or _is_uuid(reference):
            raise
        found = _begun(session, valid_slug("session_id", reference), start, conversation_id=conversation_id or conversations.COMMONS)
    _require_same(found, start)
    if start.context is not None:
        _add_context(session, found, start.context)
    _take_part(session, found, focus)
    return found


def _begun(session: Session, slug: str, start: Start, *, conversation_id: str) -> AgentSession:
    voters, expertise = start.voters, dict(start.expertise or {})
    conversations.open_for(session, conversation_id, voters or [])
    identity = uuid.uuid4()
    row: dict[str, Any] = {
        "id": identity,
        "conversation_id": conversation_id,
        "slug": slug,
        "context": dict(start.context or {}),
        "voters": voters,
        "expertise": expertise,
        "created_by": context(session).actor,
    }
    made = insert(AgentSession).values(**row).on_conflict_do_nothing(index_elements=["conversation_id", "slug"]).returning(AgentSession)
    found = session.scalars(made).one_or_none()
    if found is None:
        # Somebody was quicker by a moment.
        return find(session, slug, conversation_id=conversation_id)
    announcements.of_session(session, found)
    payload = {
        "session_id": identity,
        "initiator": row["created_by"],
        "slug": slug,
        "context": row["context"],
        "voters": voters,
        "expertise": expertise,
        "status": SessionStatus.ACTIVE,
        "outcome": None,
    }
    event_log.append(session, "session.started", f"session:{identity}", payload=payload, conversation_id=conversation_id, session_id=identity)
    return found


def _valid_voters(session: Session, voters: Sequence[str] | None) -> list[str] | None:
    """Return who votes on the actions of a session, as one may say it who might decide on each himself. Raises Refused, NotFound, InvalidInput."""
    if voters is None:
        return None
    charter.require(session, Right.APPROVE, instead="leave voters out, and each action awaits approval.")
    names = sorted(set(voters))
    may = rules().who_may(Right.VOTE)
    for name in names:
        if agents.role_of(session, name) not in may:
            raise InvalidInput("voters", name, f"agents whose role may vote: {', '.join(may) or 'none may'}")
    if not 1 <= len(names) <= MOST_VOTERS:
        raise InvalidInput("voters", names, f"1 to {MOST_VOTERS} agents, or nothing: then each action awaits approval")
    return names


def _valid_expertise(session: Session, expertise: Mapping[str, float] | None) -> dict[str, float] | None:
    """Return how much whose word weighs. Raises NotFound, InvalidInput."""
    wants = f"for each name, or name:category ({', '.join(Category)}), a weight above 0, at most {LARGEST_WEIGHT:g}"
    for who, weight in (expertise or {}).items():
        name, colon, category = who.partition(":")
        agents.get(session, name)
        if not (math.isfinite(weight) and 0 < weight <= LARGEST_WEIGHT) or (colon and category not in set(Category)):
            raise InvalidInput("expertise", {who: weight}, wants)
    return None if expertise is None else dict(expertise)


def expertise_of(found: AgentSession, agent: str, category: str) -> float:
    """Return how much the word of an agent weighs in findings of a kind: as the initiator said it of both, or of the agent, else 1."""
    weights = found.expertise
    return float(weights.get(f"{agent}:{category}", weights.get(agent, 1.0)))


def _require_same(found: AgentSession, start: Start) -> None:
    """Pass if nothing is said of a session that is otherwise. Raises Conflict."""
    told = (("voters", start.voters, found.voters), ("expertise", start.expertise, found.expertise))
    others = [name for name, said, stands in told if said not in (None, stands)]
    if others:
        raise Conflict(
            f"session {called(found)} was begun by {found.created_by} with other {' and '.join(others)}, which do not change; "
            "join it without them, or begin one under another session_id"
        )


def _add_context(session: Session, found: AgentSession, said: Mapping[str, Any]) -> None:
    turns.take(session, turn(found.id))
    session.refresh(found)
    if others := [name for name, value in said.items() if name in found.context and found.context[name] != value]:
        raise Conflict(
            f"the context of session {called(found)} says something else of {', '.join(others)}; read it, and add only what is new, or begin one "
            "under another session_id"
        )
    added = {name: value for name, value in said.items() if name not in found.context}
    if not added:
        return
    require_active(found)
    session.execute(update(AgentSession).where(AgentSession.id == found.id).values(context={**found.context, **added}))
    session.refresh(found)
    payload = {"session_id": found.id, "agent_id": context(session).actor, "added": added}
    event_log.append(session, "session.context_added", f"session:{found.id}", payload=payload, **belonging(found))
    notify(session, [key(found.id)])


def belonging(found: AgentSession) -> dict[str, Any]:
    """Return where the events of a session belong."""
    return {"conversation_id": found.conversation_id, "session_id": found.id}


def _take_part(session: Session, found: AgentSession, focus: str | None) -> None:
    actor = context(session).actor
    former = session.get(Participant, (found.id, actor))
    if former is not None and focus in (None, former.focus):
        return
    turns.share(session, [turn(found.id)])
    session.refresh(found)
    require_active(found)
    row = {"session_id": found.id, "actor": actor, "focus": focus or ""}
    joined = insert(Participant).values(**row)
    session.execute(joined.on_conflict_do_update(index_elements=["session_id", "actor"], set_={"focus": row["focus"]}))
    if former is not None:
        session.refresh(former)
    payload = {"session_id": found.id, "agent_id": actor, "focus": row["focus"]}
    event_log.append(session, "session.joined", f"session:{found.id}", payload=payload, **belonging(found))
    notify(session, [key(found.id)])


def find(session: Session, reference: str, *, conversation_id: str | None = None) -> AgentSession:
    """Return the session of this UUID or slug that the caller may see.

    Raises NotFound with the nearest names, also for an unknown conversation or a stranger's, Conflict for a slug that stands in several.
    """
    if conversation_id is not None:
        conversations.require_member(session, conversation_id)
    mine = _my_conversations(session) if conversation_id is None else [conversation_id]
    found = session.scalars(select(AgentSession).where(_named(reference), AgentSession.conversation_id.in_(mine))).all()
    if not found:
        latest_first = (
            select(AgentSession.slug, AgentSession.id).where(AgentSession.conversation_id.in_(mine)).order_by(AgentSession.created_at.desc())
        )
        raise NotFound("session", reference, [row.slug or str(row.id) for row in session.execute(latest_first.limit(1000))])
    by_id = [one for one in found if str(one.id) == reference.lower()]
    if len(found) > 1 and not by_id:
        where = ", ".join(str(one.conversation_id) for one in found)
        raise Conflict(f"session {reference!r} stands in several conversations: {where}; name conversation_id too, or its UUID")
    return (by_id or found)[0]


def _named(reference: str) -> Any:
    named = AgentSession.slug == reference
    return or_(named, AgentSession.id == uuid.UUID(reference)) if _is_uuid(reference) else named


def _is_uuid(reference: str) -> bool:
    with suppress(ValueError):
        return bool(uuid.UUID(reference))
    return False


def _my_conversations(session: Session) -> list[str]:
    mine = select(Member.conversation_id).where(Member.agent == context(session).actor)
    return [*session.scalars(mine), conversations.COMMONS]


def anywhere(session: Session, reference: str) -> list[AgentSession]:
    """Return the sessions of this id or name in all conversations, for an operator."""
    return list(session.scalars(select(AgentSession).where(_named(reference)).order_by(AgentSession.created_at)))


def latest(session: Session, *, only_active: bool = False, limit: int = 50) -> list[AgentSession]:
    """Return the latest sessions of all conversations, the newest first, for an operator."""
    query = select(AgentSession).order_by(AgentSession.created_at.desc()).limit(limit)
    return list(session.scalars(query.where(AgentSession.status == SessionStatus.ACTIVE) if only_active else query))


def participants(session: Session, found: AgentSession) -> dict[str, str]:
    """Return who takes part, in order of joining, and what each looks into."""
    query = select(Participant).where(Participant.session_id == found.id).order_by(Participant.created_at, Participant.actor)
    return {one.actor: one.focus for one in session.scalars(query)}


def enter(session: Session, found: AgentSession, *, alone: bool = False) -> None:
    """Begin to write into a session, which nobody completes before the commit; `alone`, for who completes it: while nobody else writes.

    Raises Conflict for one that is completed, Refused for who has not joined it.
    """
    if alone:
        turns.take(session, turn(found.id))
    else:
        turns.share(session, [turn(found.id)])
    session.refresh(found)
    actor = context(session).actor
    if session.get(Participant, (found.id, actor)) is None:
        raise Refused("Say that you take part:", f"{actor} has not joined session {called(found)}: join it with swarm_join_session first.")
    require_active(found)


def require_active(found: AgentSession) -> None:
    """Pass if a session is not over. Raises Conflict."""
    if found.status != SessionStatus.ACTIVE:
        raise Conflict(f"session {called(found)} is {found.status} already; read its outcome with swarm_get_findings")


def require_may_complete(session: Session, found: AgentSession) -> None:
    """Pass if the caller may complete a session: who began it, or may end what others asked for. Raises Refused."""
    if context(session).actor != found.created_by:
        charter.require(session, Right.CANCEL, instead=f"ask them, or {found.created_by}, who began session {called(found)}.")


def complete(session: Session, found: AgentSession, outcome: Mapping[str, Any]) -> AgentSession:
    """End a session with an outcome, for a caller whose right to do so was looked at before; the same again changes nothing.

    Raises Conflict for one that was completed with another outcome.
    """
    turns.take(session, turn(found.id))
    session.refresh(found)
    if found.status == SessionStatus.COMPLETED and found.outcome == dict(outcome):
        return found
    require_active(found)
    values = {"status": SessionStatus.COMPLETED, "outcome": dict(outcome), "completed_at": func.clock_timestamp()}
    session.execute(update(AgentSession).where(AgentSession.id == found.id).values(**values))
    session.refresh(found)
    payload = {"session_id": found.id, "status": found.status, "outcome": outcome}
    event_log.append(session, "session.completed", f"session:{found.id}", payload=payload, **belonging(found))
    notify(session, [key(found.id)])
    return found
