"""In which phase a conversation is, and what the charter changes in it meanwhile; one that nobody has moved has none."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.charter import Phase, Right, charter
from federation.store import turns
from federation.store.models.conversations import ConversationPhase

ORDER = tuple(Phase)


def turn(conversation_id: str) -> str:
    """Return the key of the turn that who moves a conversation has alone, and that who begins work which a phase may hold shares."""
    return f"phase of {conversation_id}"


def current(session: Session, conversation_id: str) -> ConversationPhase | None:
    """Return how a conversation came to be where it is; None for one that has no phase."""
    query = select(ConversationPhase).where(ConversationPhase.conversation_id == conversation_id).order_by(ConversationPhase.number.desc()).limit(1)
    return session.scalars(query).one_or_none()


def phase(session: Session, conversation_id: str) -> Phase | None:
    """Return the phase that a conversation is in, if it is in one."""
    found = current(session, conversation_id)
    return None if found is None else Phase(found.phase)


def resting(session: Session, right: Right, conversation_id: str) -> Phase | None:
    """Return the phase in which nobody has a right in a conversation, if it is in one that says so."""
    # Most rights rest in no phase: of these nothing is looked up.
    if not any(right in rules.rests for rules in charter().phases.values()):
        return None
    found = phase(session, conversation_id)
    return found if found is not None and right in charter().phase(found).rests else None


def holding(session: Session, work: str, conversation_id: str, *, until_commit: bool = False) -> Phase | None:
    """Return the phase in which a kind of work is not begun in a conversation, if it is in one that says so.

    With `until_commit` it stays in it until then, whoever moves it.
    """
    if not any(work in rules.holds for rules in charter().phases.values()):
        return None
    if until_commit:
        turns.share(session, [turn(conversation_id)])
    found = phase(session, conversation_id)
    return found if found is not None and work in charter().phase(found).holds else None
