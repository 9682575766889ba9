"""What clients of A2A 1.0 send, as far as it is understood here; what is not known is passed over, as the protocol asks."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from federation.a2a.card import GIVES
from federation.a2a.errors import Code, Failed

# Where a message's metadata has the terms of a task, in the words of `federation_delegate`; and which of these the message says itself.
TERMS = "federation"
OWN = frozenset({"description", "parameters", "conversation_id", "task_id", "statement", "signature"})


class _Sent(BaseModel):
    # Protocol Buffers' JSON has both names of a field, and null for one that is left out.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Part(_Sent):
    """A piece of a message: exactly one of the first four."""

    text: str | None = None
    data: Any = None
    raw: str | None = None
    url: str | None = None


class Message(_Sent):
    """What somebody says; `context_id` is a conversation."""

    message_id: str = Field(min_length=1)
    role: str
    parts: list[Part] = Field(min_length=1)
    context_id: str | None = None
    task_id: str | None = None
    metadata: dict[str, Any] | None = None


class Configuration(_Sent):
    """How a client wants the answer."""

    accepted_output_modes: list[str] | None = None
    task_push_notification_config: dict[str, Any] | None = None
    return_immediately: bool | None = None


class SendMessage(_Sent):
    """The parameters of `SendMessage`."""

    message: Message
    configuration: Configuration = Configuration()


class OneTask(_Sent):
    """The parameters of `GetTask` and `CancelTask`."""

    id: str = Field(min_length=1)


T = TypeVar("T", bound=_Sent)


def read(model: type[T], params: object) -> T:
    """Return the parameters of a request. Raises Failed, with the fields that do not fit."""
    try:
        return model.model_validate(params)
    except ValidationError as error:
        fields = [(".".join(str(part) for part in each["loc"]) or "params", each["msg"]) for each in error.errors(include_url=False)]
        raise Failed(Code.INVALID_PARAMS, "; ".join(f"{field}: {why}" for field, why in fields), fields=fields) from error


def asked(message: Message) -> tuple[str, dict[str, Any]]:
    """Return what a message says in words, and what its objects hold, as inputs. Raises Failed."""
    words: list[str] = []
    inputs: dict[str, Any] = {}
    for place, part in enumerate(message.parts):
        if part.raw is not None or part.url is not None:
            raise Failed(Code.CONTENT_TYPE_NOT_SUPPORTED, f"message.parts.{place}: a file; say it as text or data, or share it in the federation")
        if part.text is not None and part.data is None:
            words.append(part.text)
        elif part.text is None and isinstance(part.data, dict) and not part.data.keys() & inputs.keys():
            inputs |= part.data
        else:
            wants = "wants either text, or data that is an object whose names no other part has"
            raise Failed(Code.INVALID_PARAMS, f"message.parts.{place}: {wants}", fields=[(f"message.parts.{place}", wants)])
    if not any(each.strip() for each in words):
        raise Failed(Code.INVALID_PARAMS, "message.parts: want at least one text", fields=[("message.parts", "want at least one text")])
    return "\n\n".join(words), inputs


def terms(message: Message) -> dict[str, Any]:
    """Return the terms that a message asks for: what its metadata has under `federation`. Raises Failed."""
    found = (message.metadata or {}).get(TERMS)
    if found is None:
        return {}
    field = f"message.metadata.{TERMS}"
    if not isinstance(found, dict):
        raise Failed(Code.INVALID_PARAMS, f"{field}: wants an object", fields=[(field, "wants an object")])
    if own := sorted(found.keys() & OWN):
        why = f"no {', '.join(own)}: that is what the message itself says"
        raise Failed(Code.INVALID_PARAMS, f"{field}: {why}", fields=[(field, why)])
    return found


def require_possible(configuration: Configuration) -> None:
    """Pass if the client can be answered as it wants. Raises Failed."""
    if configuration.task_push_notification_config is not None:
        raise Failed(Code.PUSH_NOTIFICATION_NOT_SUPPORTED, "nothing is pushed; ask with GetTask")
    wanted = configuration.accepted_output_modes
    if wanted and not {"*/*", *GIVES} & set(wanted):
        raise Failed(Code.CONTENT_TYPE_NOT_SUPPORTED, f"acceptedOutputModes: got {', '.join(wanted)[:200]}, wants one of {', '.join(GIVES)}")
