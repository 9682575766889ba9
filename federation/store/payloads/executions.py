"""What events tell of executions: what was recorded to be done, where it went, and what became of its message."""

import uuid
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from federation.store.payloads.fields import Count, Number, Object, Sha256


class Recorded(TypedDict):
    """There is something to execute; its arguments are told by their hash."""

    task_name: str
    requirements: Object | None
    affinity: str | None
    priority: Annotated[int, Field(ge=1, le=10)]
    agent_task_id: uuid.UUID | None
    conversation_id: str | None
    due_at: datetime | None
    kwargs_sha256: Sha256


class Placed(TypedDict):
    """An execution was sent to a node."""

    node: str
    task_name: str
    requirements: Object | None


# Of a name that Python keeps for itself.
Moved = TypedDict("Moved", {"from": str | None, "to": NotRequired[str | None], "waiting_for": NotRequired[str], "reason": NotRequired[str]})
Moved.__doc__ = "An execution went from one node to another, or back to wait."


class Parked(TypedDict):
    """An execution waits for something, null: for ActiveMQ."""

    waiting_for: str | None


class Delivered(TypedDict):
    """A worker has got the message of an execution, for the `number`-th time; `repeated`: the database knows that delivery."""

    number: Number
    task_name: str
    worker: str
    pid: int
    redelivered: bool
    repeated: bool


class EffectRecorded(TypedDict):
    """An execution has done something that it does once."""

    key: str
    value: Any


class Cancelled(TypedDict):
    """Nothing that an execution does from now on has an effect."""

    reason: str | None


class Failed(TypedDict):
    """An execution has failed; of its error the name of its type, because what it says is told to who asked."""

    error: str
    node: str


class Delivery(TypedDict):
    """Who got the message when."""

    number: Number
    worker: str
    pid: int
    redelivered: bool
    at: datetime


class Quarantined(TypedDict):
    """A message was put aside, because it cannot be done; its headers and body are told by their hashes."""

    quarantine_id: uuid.UUID
    task_name: str | None
    queue: str
    worker: str
    reason: str
    deliveries: list[Delivery]
    headers_sha256: Sha256
    body_sha256: Sha256


class Redriven(TypedDict):
    """What was put aside is sent again."""

    quarantine_id: uuid.UUID


class Dismissed(TypedDict):
    """Nothing is to be done about what was put aside."""

    quarantine_id: uuid.UUID
    reason: str


class OutcomesNoted(TypedDict):
    """Of so many executions it was noted how they ended."""

    executions: Count
