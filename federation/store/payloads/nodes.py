"""What events tell of nodes; a worker is named by its incarnation."""

import uuid
from datetime import datetime
from typing import NotRequired

from typing_extensions import TypedDict

from federation.store.models.cop import Action
from federation.store.payloads.fields import Count, Number, Object, Sha256


class Announced(TypedDict):
    """A worker has begun to serve a node, with what the node has; `missing` is what its file declares and the machine lacks."""

    role: str
    tags: list[str]
    engines: list[str]
    models: list[str]
    gpus: list[Object]
    missing: list[str]
    concurrency: Number
    hostname: str
    pid: int
    incarnation: uuid.UUID
    simulated: bool


class Left(TypedDict):
    """A worker has stopped in good order."""

    incarnation: uuid.UUID


class Lost(TypedDict):
    """A worker is heard no more, since then."""

    incarnation: uuid.UUID
    last_seen_at: datetime
    replaced_by: NotRequired[uuid.UUID]


class Returned(TypedDict):
    """A worker is heard again that was lost at that time."""

    incarnation: uuid.UUID
    lost_at: datetime


class Admitted(TypedDict):
    """A node has a login of its own at PostgreSQL and ActiveMQ; `renewed` is one that ended those before."""

    expires_at: datetime | None
    renewed: bool


class Removed(TypedDict):
    """A node has no login any more, and these keys of it sign no more; where there is no `keys`, `signer.revoked` tells of each."""

    keys: NotRequired[list[Sha256]]


class Load(TypedDict):
    """Executions of a node that are not finished."""

    running: Count
    queued: Count


class StateChanged(TypedDict):
    """A node begins or ceases to work."""

    summary: str
    action: Action
    data: Load
