"""What events tell of sessions, their findings, hypotheses and actions; the fields of the coordination patterns are among them."""

import uuid
from typing import Any, Literal

from typing_extensions import TypedDict

from federation.store.models.sessions import Category
from federation.store.payloads.fields import Object, Share


class Started(TypedDict):
    """The initiator has begun a session."""

    session_id: uuid.UUID
    initiator: str
    context: Object
    slug: str | None
    voters: list[str] | None
    expertise: dict[str, float] | None
    status: Literal["active"]
    outcome: None


class ParticipantJoined(TypedDict):
    """An agent takes part, and says what he looks into."""

    session_id: uuid.UUID
    agent_id: str
    focus: str


class ContextAdded(TypedDict):
    """More is known of what the session is about."""

    session_id: uuid.UUID
    agent_id: str
    added: Object


class Completed(TypedDict):
    """The session is over."""

    session_id: uuid.UUID
    outcome: Object
    status: Literal["completed"]


class Content(TypedDict):
    """What a finding says."""

    text: str


class FindingReported(TypedDict):
    """An agent has found out something."""

    finding_id: uuid.UUID
    session_id: uuid.UUID
    agent_id: str
    category: Category
    content: Content
    confidence: Share | None
    evidence: list[Object]
    hypothesis_id: uuid.UUID | None
    validates: bool | None


class HypothesisProposed(TypedDict):
    """The finding of this id is a hypothesis."""

    hypothesis_id: uuid.UUID
    agent_id: str
    description: str
    confidence: Share | None


class Grounds(TypedDict):
    """On what a hypothesis was confirmed or refuted."""

    finding_id: uuid.UUID
    items: list[Object]


class HypothesisValidated(TypedDict):
    """A hypothesis was confirmed (true) or refuted."""

    hypothesis_id: uuid.UUID
    validated_by: str
    result: bool
    evidence: Grounds


class ActionProposed(TypedDict):
    """An agent has proposed an action, which is the task of this id; `action` has its type, target and parameters."""

    action_id: uuid.UUID
    session_id: uuid.UUID
    agent_id: str
    action: Object
    description: str
    requires_approval: bool
    consensus_id: uuid.UUID | None


class ActionCompleted(TypedDict):
    """An action was taken, or failed."""

    action_id: uuid.UUID
    session_id: uuid.UUID
    agent_id: str | None
    status: Literal["completed", "failed"]
    result: Any
