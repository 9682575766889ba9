"""What events tell of models, memories, indexes, the graph and artifacts: never what is in them."""

import uuid
from typing import NotRequired

from typing_extensions import TypedDict

from federation.store.models.artifacts import Kind
from federation.store.models.cop import Visibility
from federation.store.payloads.fields import Count, Number, Sha256


class ModelAdded(TypedDict):
    """An operator trusts the files of a model as they lie on a machine: the SHA-256 of each by its path below `root`."""

    name: str
    machine: str
    root: str
    files: dict[str, Sha256]


class Reused(TypedDict):
    """Out of which answer another one was taken, who asked that, and how long ago."""

    execution_id: uuid.UUID
    by: str
    similarity: float
    age_s: float


class ModelRan(TypedDict):
    """There is an answer, of a model that ran or out of another one (`cached`); `remote`: what was asked left the federation."""

    engine: str
    model: str
    model_digest: str | None
    node: str
    prompt_sha256: Sha256
    prompt_tokens: Count
    completion_tokens: Count
    cached: Reused | None
    remote: bool


class AnswerKept(TypedDict):
    """An answer is kept for the members of a conversation, with null for the actor; `key` is the hash of what must be the same beside the prompt."""

    key: str
    conversation_id: str | None
    engine: str
    model: str
    model_digest: str | None


class AnswersDropped(TypedDict):
    """The answers of these executions are not kept any more."""

    execution_ids: list[uuid.UUID]


class ModelPart(TypedDict):
    """So many characters of an answer are there."""

    number: Number
    characters: Count


class Remembered(TypedDict):
    """The actor remembers something; `digest` is of it with a salt."""

    memory_id: uuid.UUID
    visibility: Visibility
    audience: str
    digest: Sha256


class MemoryEmbedded(TypedDict):
    """A memory is found by its meaning."""

    memory_id: uuid.UUID
    node: str
    model: str


class MemoryGivenUp(TypedDict):
    """A memory is found by its words alone."""

    memory_id: uuid.UUID
    reason: str


class MemoryMerged(TypedDict):
    """A memory is gone because a later one says the same."""

    memory_id: uuid.UUID
    into: uuid.UUID


class MemorySummarised(TypedDict):
    """A memory sums those up."""

    memory_id: uuid.UUID
    of: list[uuid.UUID]


class Forgotten(TypedDict):
    """A memory is gone."""

    memory_id: uuid.UUID


class Scanned(TypedDict):
    """A folder was read; `withdrawn` are its indexes for others that are gone, each a visibility and an audience."""

    visibility: Visibility
    audience: str
    root_sha256: Sha256
    root: NotRequired[str]
    files: Count
    changed: Count
    deleted: Count
    chunks: Count
    batches: Count
    withdrawn: list[list[str]]


class Chunks(TypedDict):
    """So many chunks are found by their words, or by their meaning."""

    chunks: Count


class Searchable(TypedDict):
    """All of a folder is found by its words; so many batches were to be embedded when it was scanned."""

    batches: Count


class Batched(TypedDict):
    """So many batches of a folder are to be embedded."""

    batches: Count


class Embedded(TypedDict):
    """A node has embedded a batch."""

    node: str
    chunks: Count
    model: str


class Finished(TypedDict):
    """An index is done."""


class Extracted(TypedDict):
    """Messages and findings were read for the graph up to a number of the one order."""

    to: Count
    sources: Count
    relations: Count


class ArtifactStored(TypedDict):
    """There is a version of an artifact, counted from 1 within its name; its content is on the disk."""

    artifact_id: uuid.UUID
    name: str
    artifact_version: Number
    kind: Kind
    media_type: str
    size: Count
    sha256: Sha256
    task_id: uuid.UUID | None
