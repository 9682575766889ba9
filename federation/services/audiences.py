"""For whom a message is: one agent, those of a role, whoever can do something, or all members of its conversation."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import agents, capabilities, conversations
from federation.services.charter import is_agent
from federation.services.names import valid_slug
from federation.store.context import context
from federation.store.models.conversations import Message

# No agent's name has a colon, and none is `any`.
ROLE, CAPABILITY, ANY = "role:", "capability:", "any"


@dataclass(frozen=True, slots=True)
class Address:
    """One agent, or an audience of a conversation's members; neither is all of them."""

    agent: str | None = None
    audience: str | None = None

    @property
    def is_everybody(self) -> bool:
        return self.agent is None and self.audience is None


def parse(session: Session, to: str | None, *, capability: str | None = None) -> Address:
    """Return whom `to` names: an agent, `role:` or `capability:` and a name, or `any` with a capability.

    Raises NotFound for an agent or a role that does not exist, InvalidInput.
    """
    if to == ANY or (to is None and capability is not None):
        if capability is None:
            raise InvalidInput(
                "to", to, "with any, a capability: to='capability:analyze_logs', or a request with body={'capability': 'analyze_logs'}"
            )
        return Address(audience=CAPABILITY + valid_slug("capability", capability))
    if to is None:
        return Address()
    if to.startswith(ROLE):
        return Address(audience=ROLE + agents.valid_role(to.removeprefix(ROLE)))
    if to.startswith(CAPABILITY):
        return Address(audience=CAPABILITY + valid_slug("to", to.removeprefix(CAPABILITY)))
    agents.role_of(session, to)
    return Address(agent=to)


def readers(session: Session, address: Address, *, conversation_id: str, sender: str) -> list[str]:
    """Return into whose inboxes a message goes, in order of name; its sender's never, but for one to oneself."""
    if address.agent is not None:
        return [address.agent]
    others = [name for name in conversations.members(session, conversation_id) if name != sender]
    if address.audience is None:
        return others
    kind, _, name = address.audience.partition(":")
    if f"{kind}:" == CAPABILITY:
        return capabilities.who_can(session, name, others)
    return [one for one in agents.names(session, role=name) if one in set(others)]


def may_read(session: Session, message: Message) -> bool:
    """Say whether the caller, a member of its conversation, may read a message."""
    actor = context(session).actor
    if actor in {message.sender, message.recipient}:
        return True
    if message.recipient is not None:
        return False
    if message.audience is None or message.audience.startswith(CAPABILITY):
        return True
    return is_agent(actor) and message.audience == ROLE + agents.role_of(session, actor)


def lacking(audience: str, conversation_id: str, *, waits: bool) -> str:
    """Return in words who is missing where an audience has nobody, and what comes of the message."""
    kind, _, name = audience.partition(":")
    if f"{kind}:" == ROLE:
        return f"nobody of the role {name} is in {conversation_id}; who comes later finds it in the history only"
    then = "it is handed to the first who does" if waits else "who does later finds it in the history only"
    return f"nobody in {conversation_id} says that he can {name}, by federation_update_state(capabilities=[…]); {then}"
