"""Turns a tool into what FastMCP registers; the one place where our errors become errors that an agent may read."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

import mcp_types
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from pydantic import ValidationError as Misfits

from federation.errors import FederationError, TransientError
from federation.mcp.door import Call, Door
from federation.mcp.signing import wanted
from federation.mcp.words import misfit
from federation.security.statements import SignatureWanted
from federation.services.storable import refuse_unstorable

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Of the server that is called.
_door: ContextVar[Door] = ContextVar("door")


def readable(error: FederationError) -> ToolError:
    """Return the error that an agent reads: ours, in its own words, and whether to try again."""
    text = str(error)
    if isinstance(error, TransientError) and "again" not in text:
        text += "; try again in a few seconds"
    return ToolError(text, log_level=logging.INFO)


def offered(tool: Callable[Concatenate[Call, P], Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Return the tool without its first parameter, which is the call that is being made."""

    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        agent = trace_id = None
        try:
            for name, value in kwargs.items():
                refuse_unstorable(name, value)
            call = await _door.get().call()
            agent, trace_id = call.caller.name, call.trace_id
            return await tool(call, *args, **kwargs)
        except SignatureWanted as error:
            # An error is no value of the tool's, and FastMCP takes it as it is.
            return cast("T", wanted(error))
        except FederationError as error:
            logger.info("mcp.refused", extra={"tool": tool.__name__, "agent": agent, "trace_id": trace_id, "reason": str(error)})
            raise readable(error) from error

    _, *asked = inspect.signature(tool).parameters.values()
    hints: dict[str, Any] = get_type_hints(tool, include_extras=True)
    hints.pop("call")
    answer.__name__ = answer.__qualname__ = tool.__name__
    answer.__doc__ = inspect.getdoc(tool)
    answer.__annotations__ = hints
    answer.__signature__ = inspect.Signature(asked, return_annotation=hints["return"])  # type: ignore[attr-defined]  # read by inspect
    return answer


class AtDoor(Middleware):
    """Has the tools of a server act for one door; the tools themselves are the same behind each."""

    def __init__(self, door: Door) -> None:
        self._door = door

    # Whatever it is: the hook of one kind is come to through three more.
    async def __call__(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Pass the call on."""
        before = _door.set(self._door)
        try:
            return await call_next(context)
        finally:
            _door.reset(before)


class PlainWords(Middleware):
    """Says in one line which argument of a tool does not fit and what it wants."""

    async def __call__(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Pass the call on."""
        try:
            return await call_next(context)
        except ValidationError as error:
            called = context.message
            if not isinstance(error.__cause__, Misfits) or context.fastmcp_context is None or not isinstance(called, mcp_types.CallToolRequestParams):
                raise
            tool = await context.fastmcp_context.fastmcp.get_tool(called.name)
            schema = tool.parameters if tool else {}
            problems = error.__cause__.errors(include_url=False, include_context=False)
            raise ToolError("; ".join(misfit(problem, schema) for problem in problems), log_level=logging.INFO) from error
