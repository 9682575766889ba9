"""A2A's errors, and which of them each of ours is to a client of A2A."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from federation.errors import NotFound, PermanentError, Refused


class Code(Enum):
    """The errors of JSON-RPC and of A2A by their numbers; `REFUSED` is ours, of those that JSON-RPC leaves to servers."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    REFUSED = -32000
    TASK_NOT_FOUND = -32001
    TASK_NOT_CANCELABLE = -32002
    PUSH_NOTIFICATION_NOT_SUPPORTED = -32003
    UNSUPPORTED_OPERATION = -32004
    CONTENT_TYPE_NOT_SUPPORTED = -32005
    VERSION_NOT_SUPPORTED = -32009


class Failed(Exception):
    """A request of A2A that is answered with an error; `fields` are those of the request that do not fit, and why."""

    def __init__(self, code: Code, message: str, *, fields: Sequence[tuple[str, str]] = ()) -> None:
        # What it quotes may hold halves of characters, which no answer can.
        self.code, self.message = code, _whole(message)
        self.fields = [(_whole(field), _whole(why)) for field, why in fields]
        super().__init__(self.message)

    def told(self) -> dict[str, Any]:
        """Return the error object of JSON-RPC."""
        found: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.code.name, "domain": "a2a-protocol.org"}
        if self.fields:
            violations = [{"field": field, "description": why} for field, why in self.fields]
            found = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}
        return {"code": self.code.value, "message": self.message, "data": [found]}


def _whole(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def failed(error: BaseException | None, text: str) -> Failed:
    """Return what an error that ended the call of a tool is to a client of A2A; `text` is what an agent would read."""
    if isinstance(error, NotFound) and error.kind == "task":
        return Failed(Code.TASK_NOT_FOUND, text)
    if isinstance(error, Refused):
        return Failed(Code.REFUSED, text)
    if isinstance(error, PermanentError):
        return Failed(Code.INVALID_PARAMS, text)
    return Failed(Code.INTERNAL_ERROR, text)
