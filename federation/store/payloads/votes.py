"""What events tell of votes."""

import uuid
from typing import Literal

from typing_extensions import TypedDict

from federation.store.models.consensus import ConsensusState
from federation.store.payloads.fields import Number, Object, Sha256, Share


class Requested(TypedDict):
    """The actor has put something to the vote."""

    consensus_id: uuid.UUID
    slug: str | None
    revision: Literal[1]
    proposal: Object
    options_hash: Sha256
    shown: bool
    task_id: uuid.UUID | None
    state: Literal["open"]
    outcome: None
    applied: Literal[False]


class OptionsChanged(TypedDict):
    """What a vote is about was changed, and is to be acknowledged anew."""

    consensus_id: uuid.UUID
    revision: Number
    proposal: Object
    options_hash: Sha256


class Acknowledged(TypedDict):
    """The actor has in hand what the vote is about."""

    consensus_id: uuid.UUID
    revision: Number
    options_hash: Sha256


class Voted(TypedDict):
    """The actor has cast a ballot."""

    consensus_id: uuid.UUID
    revision: Number
    options_hash: Sha256
    choice: str
    response: list[str]
    confidence: Share | None
    reason: str | None
    digest: Sha256 | None


class Closed(TypedDict):
    """A vote is over."""

    consensus_id: uuid.UUID
    revision: Number
    state: ConsensusState
    outcome: Object


class Applied(TypedDict):
    """What was decided on a task was carried out; `effect` is null where the task awaited no approval any more."""

    consensus_id: uuid.UUID
    task_id: uuid.UUID
    effect: Literal["approve", "reject"] | None
    applied: Literal[True]
