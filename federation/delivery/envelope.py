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
_SCALARS = frozenset((str, int, float, bool))
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


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

    @property
    def raw(self) -> bytes:
        """The signature's 64 bytes."""
        return base64.b64decode(self.value)


def signature_header(signer: str, node: str | None, signature: bytes) -> dict[str, Any]:
    """Return what `Signature` reads."""
    # Not by the model: it is as it should be, and this is done for each message.
    return {"version": 1, "signer": signer, "node": node, "value": base64.b64encode(signature).decode()}


def settled(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers as their receiver will have them: a tuple is a list by then, and each key a text. Raises TypeError, ValueError."""
    if all(value is None or type(value) in _SCALARS or _is_plain(value) for value in headers.values()):
        return dict(headers)
    found: dict[str, Any] = kombu_json.loads(kombu_json.dumps(headers))
    return found


def _is_plain(value: Any) -> bool:
    """Return whether a value reads as the same JSON on both ends, as nearly every header does."""
    if isinstance(value, dict):
        # Keys that are no texts come in another order when they are; and a dictionary with this key is one of kombu's for something else.
        return all(type(key) is str and key != "__type__" and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in _SCALARS


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
    try:
        said = _ENCODER.encode(signed)
    except TypeError:
        # kombu knows dates, UUIDs and the like, and the transport lets it write them.
        said = str(kombu_json.dumps(signed, sort_keys=True, separators=(",", ":")))
    return said.encode() + b"\n" + body
