"""What events tell of agents, their keys and tokens, of who else signs, and of feeds."""

import uuid
from datetime import datetime
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from federation.store.models.cop import Action, Visibility
from federation.store.payloads.fields import Count, Sha256


class AgentAdded(TypedDict):
    """There is an agent of this name and role."""

    name: str
    role: str


class TokenIssued(TypedDict):
    """An agent has one more token; `token` is its id, and what it says is nowhere."""

    name: str
    token: uuid.UUID
    label: str
    expires_at: datetime | None


class TokensRevoked(TypedDict):
    """So many tokens of an agent, those with these ids, are good for nothing any more."""

    name: str
    tokens: Count
    ids: list[uuid.UUID]


class KeyAdded(TypedDict):
    """What is signed with this key is the agent's; `identity` is the SHA-256 of the public key."""

    identity: Sha256
    name: str
    public_key: str


class KeyRevoked(TypedDict):
    """This key signs no more."""

    identity: Sha256
    name: str


class StateUpdated(TypedDict):
    """What the actor does; in words only where it is for all, else by a digest alone."""

    action: Action
    visibility: Visibility
    said_sha256: Sha256
    summary: NotRequired[str]
    thinking: NotRequired[str | None]
    wondering: NotRequired[str | None]
    offering: NotRequired[str | None]


class CapabilitiesDeclared(TypedDict):
    """All that the actor can do from now on."""

    capabilities: list[str]


class FeedBegan(TypedDict):
    """An agent, or with null everybody, is fed through a destination of ActiveMQ."""

    destination: str
    agent: str | None
    expires_s: float


class FeedEnded(TypedDict):
    """A destination is fed no more."""

    destination: str


class SignerRegistered(TypedDict):
    """What is signed with this key comes from a part of the program."""

    identity: Sha256
    name: str
    public_key: str


class SignerRevoked(TypedDict):
    """The key of a part of the program signs no more."""

    identity: Sha256
    name: str


class ServiceRegistered(TypedDict):
    """A service of the program acts in the part whose key this is."""

    name: str
    role: str


class StatementMade(TypedDict):
    """The actor has stated something, signed by himself or attested by the door; `signature` is in base64."""

    digest: Sha256
    mode: Literal["signed", "attested"]
    statement: str
    signature: str
