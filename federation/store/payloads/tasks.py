"""What events tell of tasks: each where the task stands then, and what is new of it."""

import uuid
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from federation.store.models.tasks import Executor, TaskStatus
from federation.store.payloads.fields import Number, Object


class Stands(TypedDict):
    """Where a task stands."""

    task_id: uuid.UUID
    status: TaskStatus
    assigned_to: str | None


class Created(Stands):
    """Somebody has handed out a task; `designated` is the role for which its agent is designated with it."""

    type: str
    description: str
    parameters: Object
    priority: Annotated[int, Field(ge=1, le=10)]
    executor: Executor
    requirements: Object
    slug: str | None
    parent_id: uuid.UUID | None
    capability: str | None
    look_up: bool
    reserved_for: str | None
    start_at: datetime | None
    timeout_s: float | None
    requires_approval: bool
    session_id: uuid.UUID | None
    designated: NotRequired[str]


class Assigned(Stands):
    """A task is this agent's alone, or a node has begun it."""

    agent_id: str


class Claimed(Stands):
    """An agent has won the claim on a task."""

    agent_id: str
    fencing_token: Number


class HandedOver(Stands):
    """The actor has given to another what nobody held."""

    agent_id: str
    handed_to: str


class Released(Stands):
    """A task was given back by who held it."""


class Reopened(Stands):
    """A node's task that had failed is done again."""


class Escalated(Stands):
    """These were told that nobody has taken a task."""

    told: list[str]


class Ended(Stands):
    """A task is over; `result` is what came of it, or who or what ended it."""

    result: Any


class Decided(Stands):
    """What awaited approval was decided on; of a vote `decided_by` is `consensus:<id>`."""

    description: str
    terms: Object
    reason: str
    decided_by: NotRequired[str]


class Rejected(Decided):
    """What awaited approval was rejected, and is over."""

    result: Any
