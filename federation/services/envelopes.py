"""What a message says for programs: the bodies of findings, actions, requests and responses; refuses what does not fit, and names the field.

The fields are those of the coordination patterns' «Standard agent message». A `content` in a body is what the message says in words.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from federation.errors import InvalidInput
from federation.services.names import PATTERN, WANTED
from federation.store.models.conversations import MessageType

_Text = Annotated[str, StringConstraints(min_length=1, max_length=100_000, pattern=r"\S")]
_Line = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"\S")]
_Name = Annotated[str, StringConstraints(pattern=f"^{PATTERN}$")]


class Body(BaseModel):
    """What all bodies have."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    content: _Text | None = None

    def words(self) -> str:
        """Return what it says, for who reads no programs' fields."""
        raise NotImplementedError


class Evidence(BaseModel):
    """What a finding rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: _Line
    query: _Text | None = None
    result: Any = None


class Finding(Body):
    """What somebody found out."""

    category: Literal["observation", "hypothesis", "conclusion"]
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    evidence: Annotated[list[Evidence], Field(max_length=100)] = []

    def words(self) -> str:
        return self.category


class Action(Body):
    """What somebody does or wants done."""

    type: Literal["query", "modify", "notify", "escalate"]
    target: _Line | None = None
    parameters: dict[str, Any] = {}
    requires_approval: bool = False

    def words(self) -> str:
        return f"{self.type} {self.target}" if self.target else self.type


class Request(Body):
    """What somebody asks of one, or of any who can do it."""

    to: _Name | None = None
    capability: _Name | None = None
    parameters: dict[str, Any] = {}

    def words(self) -> str:
        return " ".join(filter(None, (self.capability, json.dumps(self.parameters, ensure_ascii=False) if self.parameters else None))) or "request"


class Response(Body):
    """What came of a request."""

    request_id: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F-]{32,36}$")] | None = None
    status: Literal["success", "failure"] = "success"
    result: dict[str, Any] | None = None

    def words(self) -> str:
        return self.status if self.result is None else f"{self.status}: {json.dumps(self.result, ensure_ascii=False)}"


Form = TypeVar("Form", bound=Body)
BODIES: Mapping[MessageType, type[Body]] = {
    MessageType.FINDING: Finding,
    MessageType.ACTION: Action,
    MessageType.REQUEST: Request,
    MessageType.RESPONSE: Response,
}
# These stand in columns of the message.
_ELSEWHERE = {"content", "to", "request_id"}
# What the pattern of each says is longer than what it means.
_WANTS = {"string_pattern_mismatch": "a text that is not empty", "string_too_short": "a text that is not empty", "bool_type": "true or false"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a typed message says: its content if the body has one, `words` for one that has none, what is for programs, to whom, and to what."""

    content: str | None
    words: str
    data: dict[str, Any]
    to: str | None = None
    capability: str | None = None
    reply_to: uuid.UUID | None = None

    @property
    def requires_approval(self) -> bool:
        return bool(self.data.get("requires_approval"))


def read(message_type: MessageType, body: Mapping[str, Any] | None) -> Envelope | None:
    """Return what the body of a message says, None for a type that has none. Raises InvalidInput that names the field."""
    form = BODIES.get(message_type)
    if form is None:
        if body is not None:
            raise InvalidInput("body", body, f"no body for a {message_type}; {', '.join(BODIES)} have one")
        return None
    said = checked(form, body or {}, place=("body",))
    data = said.model_dump(mode="json", exclude=_ELSEWHERE, exclude_none=True, exclude_unset=True)
    if isinstance(said, Request):
        return Envelope(said.content, said.words(), data, to=said.to, capability=said.capability)
    if isinstance(said, Response):
        # Said or not: which of several responses is the answer goes by it.
        data["status"] = said.status
        return Envelope(said.content, said.words(), data, reply_to=None if said.request_id is None else _uuid(said.request_id))
    return Envelope(said.content, said.words(), data)


def checked(form: type[Form], given: Mapping[str, Any], *, place: tuple[str, ...] = ()) -> Form:
    """Return what was given in its form; `place` is where it stands. Raises InvalidInput that names the field."""
    try:
        return form.model_validate(given)
    except ValidationError as error:
        raise _misfit(error.errors(include_url=False)[0], form, place) from error


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidInput("body.request_id", text, "the message_id of the request, a UUID") from error


def _misfit(problem: ErrorDetails, form: type[Body], above: tuple[str, ...]) -> InvalidInput:
    message_type = form.__name__.lower()
    place = ".".join([*above, *map(str, problem["loc"])])
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = sorted(form.model_fields) if len(problem["loc"]) == 1 else sorted(Evidence.model_fields)
        near = get_close_matches(str(problem["loc"][-1]), known, n=1)
        return InvalidInput(
            place, problem["input"], f"no such field in a {message_type}; {'nearest' if near else 'there is'}: {', '.join(near or known)}"
        )
    if kind == "missing":
        field = form.model_fields.get(str(problem["loc"][-1]))
        wants = _options(field.annotation) if field else "a text"
        return InvalidInput(place, None, f"{wants}, because a {message_type} has one")
    if kind == "string_pattern_mismatch" and problem["loc"][-1] in {"to", "capability"}:
        return InvalidInput(place, problem["input"], WANTED)
    wants = _WANTS.get(kind) or problem["msg"].removeprefix("Input should be ")
    return InvalidInput(place, problem["input"], wants)


def _options(annotation: Any) -> str:
    return f"one of {', '.join(map(str, options))}" if (options := getattr(annotation, "__args__", ())) else "a value"
