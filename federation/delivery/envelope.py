"""What travels with an execution beside its arguments: who asked, under which trace, for whom; and the signature over all of it, as values."""

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from kombu.utils import json as kombu_json
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from federation.placement.requirements import Requirements

HEADER = "federation"
SIGNATURE = "federation_signature"
# What is put on a message after it was signed: kombu says that it compressed the body, and the transport repeats what is asked of the broker.
_ADDED_LATER = frozenset((SIGNATURE, "compression", "message_group", "stomp_headers"))
SIGNATURE_BYTES = 64


class Envelope(BaseModel):
    """The header `federation` of a message; `requirements` are its audience."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    actor: str
    trace_id: str
    requirements: Requirements = Requirements()

    def header(self) -> dict[str, Any]:
        """Return the envelope as JSON for a header."""
        return self.model_dump(mode="json")


def read(header: Mapping[str, Any]) -> Envelope:
    """Return the envelope of a header. Raises pydantic.ValidationError for anything that is none."""
    return Envelope.model_validate(header)


def _signature(value: str) -> str:
    if len(base64.b64decode(value, validate=True)) != SIGNATURE_BYTES:
        raise ValueError(f"{SIGNATURE_BYTES} bytes in base64 are wanted")
    return value


class Signature(BaseModel):
    """The header `federation_signature`: whose key signed, for which node where there is no envelope to say so, and the signature in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    signer: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    node: str | None = None
    value: Annotated[str, AfterValidator(_signature)]

    def header(self) -> dict[str, Any]:
        """Return it as JSON for a header."""
        return self.model_dump(mode="json")

    @property
    def raw(self) -> bytes:
        """The signature's 64 bytes."""
        return base64.b64decode(self.value)


def encoded(signature: bytes) -> str:
    """Return a signature as `Signature.value` has it."""
    return base64.b64encode(signature).decode()


def settled(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers as their receiver will have them: a tuple is a list by then, and each key a text. Raises TypeError, ValueError."""
    found: dict[str, Any] = kombu_json.loads(_json(headers, ordered=False))
    return found


def canonical_bytes(
    headers: Mapping[str, Any], body: bytes, *, signer: str, node: str | None, content_type: str | None, content_encoding: str | None
) -> bytes:
    """Return what a signature is made over: all headers but those that are added later, and the body as it travels; never the physical queue.

    The same headers in another order are the same bytes. Raises TypeError for what is no JSON.
    """
    signed = {
        "version": 1,
        "signer": signer,
        "node": node,
        "content_type": content_type,
        "content_encoding": content_encoding,
        "headers": {name: value for name, value in headers.items() if name not in _ADDED_LATER},
    }
    # JSON has no line feed outside of its texts, and writes one within as \n: so the first one ends it, whatever the body holds.
    return _json(signed, ordered=True).encode() + b"\n" + body


def _json(value: Mapping[str, Any], *, ordered: bool) -> str:
    try:
        return json.dumps(value, sort_keys=ordered, separators=(",", ":"))
    except TypeError:
        # kombu knows dates, UUIDs and the like, and the transport lets it write them.
        return str(kombu_json.dumps(value, sort_keys=ordered, separators=(",", ":")))
