"""What travels with an execution beside its arguments: who asked, under which trace, for whom; with a place for a signature."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from federation.placement.requirements import Requirements

HEADER = "federation"


class Envelope(BaseModel):
    """The header `federation` of a message; `requirements` are its audience."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    actor: str
    trace_id: str
    requirements: Requirements = Requirements()
    signature: str | None = None

    def header(self) -> dict[str, Any]:
        """Return the envelope as JSON for a header."""
        return self.model_dump(mode="json")


def read(header: Mapping[str, Any]) -> Envelope:
    """Return the envelope of a header. Raises pydantic.ValidationError for anything that is none."""
    return Envelope.model_validate(header)


def canonical_bytes(envelope: Envelope, *, task_name: str, execution_id: uuid.UUID, retries: int, body: bytes) -> bytes:
    """Return what a signature is made over: the same bytes for the same meaning, and never the physical queue."""
    signed = {
        "version": envelope.version,
        "actor": envelope.actor,
        "trace_id": envelope.trace_id,
        "requirements": envelope.requirements.model_dump(mode="json", exclude_defaults=True),
        "task": task_name,
        "id": str(execution_id),
        "retries": retries,
    }
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n" + body
