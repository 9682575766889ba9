"""What is wrong with what a message says, in words; whose it is, others ask; runs nothing and settles nothing."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

from celery.utils.time import maybe_iso8601
from kombu import Message
from kombu.exceptions import ContentDisallowed, DecodeError, SerializationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from federation.delivery.envelope import HEADER, SIGNATURE, Signature, read

_UNREADABLE = (ContentDisallowed, DecodeError, SerializationError, UnicodeError, LookupError, ValueError, TypeError, AttributeError)


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a NUL, which PostgreSQL does not store")
    return value


def _time(value: str) -> str:
    # At the ends of the calendar, conversions between time zones overflow.
    when = maybe_iso8601(value)
    if when is None or not 1970 <= when.year < 9999:
        raise ValueError("a time from the years 1970 to 9998 is wanted")
    return value


_Text = Annotated[str, AfterValidator(_without_nul)]
# The table of results holds no longer one.
_Id = Annotated[_Text, Field(max_length=255)]
_Count = Annotated[int, Field(ge=0, le=10_000)]
_Seconds = Annotated[float, Field(ge=0, le=1e8, allow_inf_nan=False)]
_Time = Annotated[str, AfterValidator(_time)]
_Signatures = list[dict[str, Any]]


class _Headers(BaseModel):
    """The headers that Celery's worker reads, with the types that it takes for granted, and our counts of what was given back."""

    model_config = ConfigDict(strict=True, extra="allow")

    task: _Text
    id: Annotated[_Id, Field(min_length=1)]
    lang: _Text | None = None
    root_id: _Id | None = None
    parent_id: _Id | None = None
    group: _Id | None = None
    group_index: _Count | None = None
    shadow: _Text | None = None
    retries: _Count = 0
    timelimit: Annotated[list[_Seconds | None], Field(min_length=2, max_length=2)] | None = None
    eta: _Time | None = None
    expires: _Time | None = None
    stamped_headers: list[_Text] | None = None
    stamps: dict[str, Any] | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: _Text | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: _Count | None = None
    federation_returns: _Count | None = None
    federation_losses: _Count | None = None


class _Embed(BaseModel):
    """What is called after the task; anything but signatures would fail when the task has had its effects already."""

    model_config = ConfigDict(strict=True, extra="allow")

    callbacks: _Signatures | None = None
    errbacks: _Signatures | None = None
    chain: _Signatures | None = None
    chord: dict[str, Any] | None = None


def header_flaw(message: Message) -> str | None:
    """Return what is wrong with the headers that Celery reads and with the type of the body, None if nothing is; does not look into the body."""
    try:
        _Headers.model_validate(message.headers)
    except ValidationError as error:
        return _header_flaw(error)
    if message.accept is not None and message.content_type not in message.accept:
        return f"the body cannot be read: it is {message.content_type}, and only JSON is read"
    return _model_flaw(SIGNATURE, message.headers.get(SIGNATURE), Signature.model_validate)


def content_flaw(message: Message, tasks: Mapping[str, Any]) -> str | None:
    """Return what is wrong with task, envelope and body of a message whose headers have no flaw, None if nothing is."""
    name = message.headers["task"]
    if name not in tasks:
        return f"unknown task {name!r}: no worker of this version has it"
    return _model_flaw(HEADER, message.headers.get(HEADER), read) or _body_flaw(message, tasks[name])


def _header_flaw(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "task"
    if not first["loc"] or first["type"] == "missing":
        return f"no header `{name}`" + (": this is no message of Celery" if name == "task" else "")
    return f"header `{name}`: {first['msg']}; got {first['input']!r:.200}"


def _model_flaw(name: str, header: Any, parse: Callable[[Any], object]) -> str | None:
    if header is None:
        return None
    try:
        parse(header)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"header `{name}`: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None


def _body_flaw(message: Message, task: Any) -> str | None:
    try:
        payload = message.payload
    except _UNREADABLE as error:
        return f"the body cannot be read as {message.content_type}: {error}"
    match payload:
        case [list() as args, dict() as kwargs, dict() | None as embed]:
            return _argument_flaw(task, args, kwargs) or _embed_flaw(embed or {})
    return "the body is not [args, kwargs, embed]"


def _argument_flaw(task: Any, args: list[Any], kwargs: dict[str, Any]) -> str | None:
    # Celery's own check is the sender's, and it takes a keyword `self` for one of the task's.
    run = inspect.unwrap(task.run)
    function, first = (run.__func__, (task,)) if inspect.ismethod(run) else (run, ())
    try:
        _signature(function).bind(*first, *args, **kwargs)
    except TypeError as error:
        return f"the arguments do not fit {task.name}: {error}"
    return None


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    # Reading it takes three times as long as a bind, and each message binds.
    return inspect.signature(function)


def _embed_flaw(embed: dict[str, Any]) -> str | None:
    try:
        _Embed.model_validate(embed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"the body's `{first['loc'][0]}`: {first['msg']}"
    return None
