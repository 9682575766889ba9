"""What an agent says over STOMP, read from a frame: the coordination patterns' «Standard agent message» as JSON, or plain text with headers.

Refuses what does not fit, and names the field.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation.broker.frames import Frame
from federation.errors import InvalidInput
from federation.security.claimed_senders import claims_sender
from federation.security.statements import Presented, presented
from federation.services.envelopes import BODIES
from federation.services.storable import LONGEST_TEXT, refuse_unstorable
from federation.store.models.conversations import MessageType

LONGEST_LINE = 1_000
# Two say something of the speaker and to nobody.
_TYPES = {*map(str, MessageType), "state", "read"}
_Line = Annotated[str, Field(max_length=LONGEST_LINE)] | None


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    agent: str | None = None
    session: str | None = None


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    summary: Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)]
    action: str = "EXECUTING"
    thinking: _Line = None
    wondering: _Line = None
    offering: _Line = None
    visibility: str = "all"
    capabilities: list[str] | None = None


class _Message(BaseModel):
    """All that a message may have; a field named as its type holds the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = None
    timestamp: str | None = None
    source: _Source = _Source()
    type: str = MessageType.CHAT
    content: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    to: str | None = None
    conversation_id: str | None = None
    reply_to: str | None = None
    confirm: bool = False
    cursor: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    statement: str | None = None
    signature: str | None = None
    finding: dict[str, Any] | None = None
    action: dict[str, Any] | None = None
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    state: _State | None = None


_PARTS: Mapping[int | str, type[BaseModel]] = {"source": _Source, "state": _State}
_WANTS = {"model_type": "an object", "dict_type": "an object", "string_type": "a text", "bool_type": "true or false", "missing": "a value"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message, a new state, or that one has read up to a cursor."""

    id: str | None
    confirm: bool
    type: str | None = None
    content: str | None = None
    address: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    session: str | None = None
    state: Mapping[str, Any] | None = None
    cursor: int | None = None
    signed: Presented | None = None


def read(frame: Frame, agent: str) -> Spoken:
    """Return what a frame of this agent says. Raises InvalidInput."""
    for header, claimed in frame.headers.items():
        if claims_sender(header) and claimed != agent:
            raise InvalidInput(f"header {header[:40]}", claimed[:100], f"{agent}, whose queue this came through, or nothing")
    given = _object(frame)
    for name, value in given.items():
        refuse_unstorable(str(name)[:40], name)
        refuse_unstorable(str(name)[:40], value)
    said = _validated(given)
    if said.type not in _TYPES:
        raise InvalidInput("type", said.type, "one of " + ", ".join(sorted(_TYPES)))
    if said.source.agent not in {None, agent}:
        raise InvalidInput("source.agent", said.source.agent, f"{agent}, whose queue this came through, or nothing")
    if said.source.session is not None and said.type in {"read", "state"}:
        raise InvalidInput("source.session", said.source.session, f"nothing in a {said.type}, which belongs to no session")
    if said.type == "read":
        if said.cursor is None:
            raise InvalidInput("cursor", None, "the cursor up to which you have read")
        return Spoken(said.id, said.confirm, cursor=said.cursor)
    if said.type == "state":
        if said.state is None:
            raise InvalidInput("state", None, "an object with a summary")
        return Spoken(said.id, said.confirm, state={**said.state.model_dump(exclude={"capabilities"}), "able": said.state.capabilities})
    bodies = {name: body for name in BODIES if (body := getattr(said, name)) is not None}
    if others := bodies.keys() - {said.type}:
        raise InvalidInput(min(others), bodies[min(others)], f"no {min(others)} in a message of type {said.type}")
    # What was not said is left to the service, which knows what an answer to a request is.
    kind = said.type if "type" in said.model_fields_set else None
    signed = presented(said.statement, said.signature)
    if signed is not None and said.id is None:
        raise InvalidInput("id", None, "a name that you choose, because what you sign names the message by it")
    address = {"to": said.to, "conversation_id": said.conversation_id, "reply_to": _uuid(said.reply_to)}
    body = bodies.get(MessageType(said.type))
    return Spoken(said.id, said.confirm, type=kind, content=said.content, address=address, body=body, session=said.source.session, signed=signed)


def id_of(frame: Frame) -> str | None:
    """Return the name that its sender gave a message, however little of it can be read."""
    try:
        name = _object(frame).get("id")
    except InvalidInput:
        return None
    return name[:100] if isinstance(name, str) else None


def _object(frame: Frame) -> dict[str, Any]:
    try:
        text = frame.body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("body", frame.body[:40], "text in UTF-8") from error
    headers = frame.headers
    if "json" not in headers.get("content-type", "") and not text.lstrip().startswith("{"):
        named = {"to": "to", "conversation": "conversation_id", "in-reply-to": "reply_to", "federation-id": "id"}
        return {"content": text, **{name: headers[header] for header, name in named.items() if header in headers}}
    try:
        said = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("body", text[:80], f"an object of JSON ({error})") from error
    if not isinstance(said, dict):
        raise InvalidInput("body", text[:80], "an object of JSON")
    return said


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _validated(said: Mapping[str, Any]) -> _Message:
    try:
        return _Message.model_validate(said)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            form = _PARTS.get(problem["loc"][0], _Message) if len(problem["loc"]) > 1 else _Message
            raise InvalidInput(place, problem["input"], f"no such field; there is {', '.join(sorted(form.model_fields))}") from error
        got = None if problem["type"] == "missing" else problem["input"]
        wants = problem["msg"].removeprefix("Input should be ").removeprefix("String should have ")
        raise InvalidInput(place, got, _WANTS.get(problem["type"]) or wants) from error


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return None if text is None else uuid.UUID(text)
    except ValueError as error:
        raise InvalidInput("reply_to", text, "the id of the message that this answers, a UUID") from error
