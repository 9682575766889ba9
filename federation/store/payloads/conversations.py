"""What events tell of conversations and of what is said in them: hashes and addresses, not the words."""

import uuid

from typing_extensions import TypedDict

from federation.charter import Phase
from federation.store.models.conversations import MessageType
from federation.store.payloads.fields import Count, Number, Sha256


class Opened(TypedDict):
    """There is a conversation of this id."""

    id: str


class Joined(TypedDict):
    """An agent is a member of the conversation."""

    agent: str


class Moved(TypedDict):
    """The conversation is in a phase, its `number`-th."""

    number: Number
    phase: Phase
    former: Phase | None
    reason: str


class Summarised(TypedDict):
    """There is a summary of a window of messages, of level 1, or of summaries; `rejected_sha256` is of why a model's was not taken."""

    level: Number
    from_position: Number
    to_position: Number
    method: str
    model: str | None
    model_digest: str | None
    text_sha256: Sha256
    rejected_sha256: Sha256 | None


class Scheduled(TypedDict):
    """The conversation is summarised at times, after so many messages, or both."""

    cron: str | None
    messages: Count | None


class Unscheduled(TypedDict):
    """The conversation is summarised as others are."""


class RoleAssigned(TypedDict):
    """An agent is designated for a role in the conversation, with a task."""

    assignment_id: uuid.UUID
    agent: str
    role: str
    task_id: uuid.UUID


class MessageSent(TypedDict):
    """The actor has said something, to one (`to`), to an audience, or to all members of the conversation; what, is told by hashes."""

    message_id: uuid.UUID
    to: str | None
    audience: str | None
    message_type: MessageType
    reply_to: uuid.UUID | None
    correlation_id: uuid.UUID
    recipients: list[str]
    content_sha256: Sha256
    body_sha256: Sha256 | None
    data_sha256: Sha256 | None


MessageRead = TypedDict("MessageRead", {"agent": str, "from": Number, "to": Number, "count": Number})
MessageRead.__doc__ = "An agent has read so many messages, which lie at these positions of his inbox."


class HandedOn(TypedDict):
    """What was said to an audience before an agent belonged to it is in his inbox."""

    agent: str
    message_ids: list[uuid.UUID]
