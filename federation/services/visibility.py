"""Who may see what an agent indexes or remembers, in the words of states: all, the members of a conversation, its role, or nobody but itself."""

from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import agents, conversations
from federation.services.charter import is_agent
from federation.store.context import context
from federation.store.models.cop import Visibility


def audience(session: Session, visibility: str | None, conversation_id: str | None, *, unsaid: Visibility = Visibility.ALL) -> tuple[Visibility, str]:
    """Return for whom something of the caller's is, by a name too: that of a conversation, of its role, its own for nobody, none for all.

    A conversation alone means its members, and nothing what is `unsaid`. Raises InvalidInput, NotFound for a conversation of which the caller is
    not a member.
    """
    actor = context(session).actor
    if visibility is None:
        visibility = unsaid if conversation_id is None else Visibility.MEMBERS
    if visibility not in set(Visibility):
        raise InvalidInput("visibility", visibility, "one of " + ", ".join(Visibility))
    if conversation_id is not None and visibility != Visibility.MEMBERS:
        raise InvalidInput("conversation_id", conversation_id, "visibility='members' beside it, for those who are members of this conversation")
    match level := Visibility(visibility):
        case Visibility.ALL:
            return level, ""
        case Visibility.MEMBERS:
            if conversation_id is None or conversation_id == conversations.COMMONS:
                wants = "the conversation whose members may see it; what everybody may see has visibility='all'"
                raise InvalidInput("conversation_id", conversation_id, wants)
            conversations.require_member(session, conversation_id)
            return level, conversation_id
        case Visibility.ROLE:
            if not is_agent(actor):
                raise InvalidInput("visibility", visibility, "another one: only agents have a role")
            return level, agents.role_of(session, actor)
        case Visibility.NOBODY:
            return level, actor
