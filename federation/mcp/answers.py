"""Turns a tool into what FastMCP registers; the one place where our errors become errors that an agent may read."""

import difflib
import inspect
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

logger = logging.getLogger(__name__)

# Longer texts belong into files: every reader's model would have to read them.
LONGEST = 1_000_000

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


def _refuse_unstorable(name: str, value: Any) -> None:
    """Pass if PostgreSQL can keep all of it. Raises InvalidInput that names the place."""
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise InvalidInput(name, f"{len(value)} characters", f"at most {LONGEST} characters; put what is longer into a file")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidInput(name, value[:80], "text without NUL and without halves of characters")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(name, value, "a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidInput(name, value, "a number of at most 63 bits")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(f"{name}.{key[:40]}", key)
            _refuse_unstorable(f"{name}.{key[:40]}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unstorable(f"{name}.{index}", item)


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
            known = list(tool.parameters.get("properties", ())) if tool else []
            raise ToolError(
                "; ".join(_misfit(problem, known) for problem in error.__cause__.errors(include_url=False)), log_level=logging.INFO
            ) from error


def _misfit(problem: Any, known: list[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f"no argument {name!r}; nearest: {', '.join(difflib.get_close_matches(name, known, cutoff=0.4) or known)}"
    if problem["type"] == "missing_argument":
        return f"{name}: got nothing, wants a value"
    return f"{name}: got {problem['input']!r}, wants: {problem['msg']}"
