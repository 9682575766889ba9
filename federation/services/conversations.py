"""Conversations and their members; one may read and write where one is a member."""

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, exists, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from federation.charter import charter
from federation.errors import NotFound, Refused
from federation.services import agents
from federation.services.charter import is_agent
from federation.services.names import valid_slug
from federation.store import event_log
from federation.store.context import context
from federation.store.models.conversations import Conversation, Member

# Where everybody hears what is said to all; no agent needs to join it.
COMMONS = "commons"
# Ids that begin so are those of two agents, who alone may open them.
DIRECT = "direct:"


def direct(one: str, other: str) -> str:
    """Return the id of the conversation between two agents."""
    return DIRECT + ":".join(sorted((one, other)))


def is_direct(conversation_id: str) -> bool:
    """Return whether a conversation is one of two agents, who both read all of it."""
    return conversation_id.startswith(DIRECT)


def open_for(session: Session, conversation_id: str, participants: Iterable[str]) -> list[str]:
    """Make a conversation if it is new, and the participants its members; return which of them are new to it.

    Raises Refused if it exists and the caller is not a member of it: a name that is taken cannot be hidden from who chooses it.
    """
    valid_slug("conversation_id", conversation_id)
    actor = context(session).actor
    participants = set(participants)
    if is_direct(conversation_id) and conversation_id not in {direct(actor, name) for name in participants}:
        if participants:
            raise Refused("Need to know:", f"{conversation_id} is between two; choose another conversation_id to speak with a third.")
        require_member(session, conversation_id)
    there = _there(session, conversation_id, {actor, *participants})
    if not there:
        made = session.scalar(insert(Conversation).values(id=conversation_id, created_by=actor).on_conflict_do_nothing().returning(Conversation.id))
        if made:
            payload = {"id": conversation_id}
            event_log.append(session, "conversation.opened", f"conversation:{conversation_id}", payload=payload, conversation_id=conversation_id)
            if is_agent(actor):
                _join(session, conversation_id, actor)
        elif not _is_member(session, conversation_id):
            instead = "choose another conversation_id, or ask a member to send you a message in it."
            raise Refused("Need to know:", f"{actor} is not a member of {conversation_id}; {instead}")
    if conversation_id == COMMONS:
        return []
    return [name for name in sorted(participants - {actor, *there}) if _join(session, conversation_id, name)]


def is_open_with(session: Session, name: str) -> bool:
    """Return whether the caller and an agent of this name speak in a conversation of their own already."""
    actor = context(session).actor
    return ":" not in name and is_agent(actor) and {actor, name} <= set(_there(session, direct(actor, name), {actor, name}))


# These are run with most that is said. Made once: to make one takes SQLAlchemy longer than to run it.
_COMMONS_IS_THERE = select(exists().where(Conversation.id == COMMONS))
_THERE = text("SELECT agent FROM conversation_members WHERE conversation_id = :conversation_id AND agent = ANY(CAST(:names AS text[]))")
_COUNT = text("SELECT count(*) FROM conversation_members WHERE conversation_id = :conversation_id")


def _there(session: Session, conversation_id: str, names: Collection[str]) -> Collection[str]:
    """Return which of these are members of a conversation that the caller takes part in; empty if he does not, or if there is none."""
    if conversation_id == COMMONS:
        # Once it is there it stays.
        there = session.info[COMMONS] = session.info.get(COMMONS) or session.scalar(_COMMONS_IS_THERE)
        return names if there else ()
    found = session.scalars(_THERE, {"conversation_id": conversation_id, "names": list(names)}).all()
    return found if context(session).actor in found else ()


def _join(session: Session, conversation_id: str, name: str) -> bool:
    actor = context(session).actor
    joined = session.scalar(
        insert(Member).values(conversation_id=conversation_id, agent=name, added_by=actor).on_conflict_do_nothing().returning(Member.agent)
    )
    if joined:
        event_log.append(session, "conversation.joined", f"conversation:{conversation_id}", payload={"agent": name}, conversation_id=conversation_id)
    return joined is not None


def require_member(session: Session, conversation_id: str) -> None:
    """Pass if the caller may read and write here.

    Raises NotFound with the caller's own, for one that does not exist as for a stranger's.
    """
    agents.require(conversation_id, "conversation_id")
    if not _is_member(session, conversation_id):
        mine = session.scalars(select(Member.conversation_id).where(Member.agent == context(session).actor))
        raise NotFound("conversation", conversation_id, sorted({*mine, COMMONS}))


def require_reader(session: Session, conversation_id: str) -> None:
    """Pass if the caller may read here: members, and operators wherever there is something. Raises NotFound."""
    if is_agent(context(session).actor):
        require_member(session, conversation_id)
    elif conversation_id != COMMONS and session.get(Conversation, conversation_id) is None:
        there = session.scalars(select(Conversation.id).order_by(Conversation.created_at.desc()).limit(1000))
        raise NotFound("conversation", conversation_id, list(there))


def is_mine(session: Session, conversation_id: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return the condition that a row is of a conversation which the caller takes part in."""
    mine = select(Member.conversation_id).where(Member.agent == context(session).actor)
    return or_(conversation_id == COMMONS, conversation_id.in_(mine))


def _is_member(session: Session, conversation_id: str) -> bool:
    return conversation_id == COMMONS or session.get(Member, (conversation_id, context(session).actor)) is not None


def count(session: Session, conversation_id: str) -> int:
    """Return how many members a conversation has that are seen by the caller; of the commons none, because all are in it."""
    if conversation_id == COMMONS:
        return 0
    return session.scalar(_COUNT, {"conversation_id": conversation_id}) or 0


def crowded(session: Session, conversation_id: str, *, before: int) -> str | None:
    """Return a warning if there are more members than before, and than the charter wants."""
    most, now = charter().conversations.at_most, count(session, conversation_id)
    if not most or now <= max(most, before):
        return None
    return (
        f"{now} members are in {conversation_id} now, and roles are clear among {most} at most: give each a role with federation_assign_role, "
        "or open another conversation"
    )


def members(session: Session, conversation_id: str) -> list[str]:
    """Return the names of those who hear what is said here, in order."""
    if conversation_id == COMMONS:
        return agents.names(session)
    return list(session.scalars(select(Member.agent).where(Member.conversation_id == conversation_id).order_by(Member.agent)))
