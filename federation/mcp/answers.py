"""Turns a tool into what FastMCP registers; the one place where our errors become errors that an agent may read."""

import inspect
import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints

import mcp_types
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import ToolResult
from pydantic import ValidationError as Misfits

from federation.errors import FederationError, InvalidInput, TransientError
from federation.mcp.door import Call, Door
from federation.mcp.tools.arguments import LONGEST_TEXT
from federation.mcp.words import misfit

logger = logging.getLogger(__name__)

# PostgreSQL, and each that reads it back, takes JSON apart level by level.
DEEPEST = 32

P = ParamSpec("P")
T = TypeVar("T")


def readable(error: FederationError) -> ToolError:
    """Return the error that an agent reads: ours, in its own words, and whether to try again."""
    text = str(error)
    if isinstance(error, TransientError) and "again" not in text:
        text += "; try again in a few seconds"
    return ToolError(text, log_level=logging.INFO)


def offered(door: Door, tool: Callable[Concatenate[Call, P], Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Return the tool without its first parameter, which is the call that is being made."""

    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        agent = trace_id = None
        try:
            for name, value in kwargs.items():
                _refuse_unstorable(name, value)
            call = await door.call()
            agent, trace_id = call.caller.name, call.trace_id
            return await tool(call, *args, **kwargs)
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


def _refuse_unstorable(name: str, value: Any, *, depth: int = 0) -> None:
    """Pass if PostgreSQL can keep all of it. Raises InvalidInput that names the place."""
    if depth > DEEPEST:
        raise InvalidInput(name.partition(".")[0], f"an object of more than {DEEPEST} levels", f"at most {DEEPEST} levels")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidInput(name, value[:80], "text without NUL and without halves of characters")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(name, value, "a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidInput(name, "a number that is too large", "a number of at most 63 bits")
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            place = f"{name}.{key[:40] if isinstance(key, str) else key}"
            _refuse_unstorable(place, key, depth=depth + 1)
            _refuse_unstorable(place, item, depth=depth + 1)
        if depth == 0 and (length := len(json.dumps(value, ensure_ascii=False))) > LONGEST_TEXT:
            wants = f"at most {LONGEST_TEXT} characters as JSON; put what is longer into a file"
            raise InvalidInput(name, f"{length} characters", wants)


class PlainWords(Middleware):
    """Says in one line which argument of a tool does not fit and what it wants."""

    async def on_call_tool(
        self, context: MiddlewareContext[mcp_types.CallToolRequestParams], call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult]
    ) -> ToolResult:
        """Pass the call on."""
        try:
            return await call_next(context)
        except ValidationError as error:
            if not isinstance(error.__cause__, Misfits) or context.fastmcp_context is None:
                raise
            tool = await context.fastmcp_context.fastmcp.get_tool(context.message.name)
            schema = tool.parameters if tool else {}
            problems = error.__cause__.errors(include_url=False, include_context=False)
            raise ToolError("; ".join(misfit(problem, schema) for problem in problems), log_level=logging.INFO) from error
