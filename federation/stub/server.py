"""The front door's tools, resources and prompts over standard input and output; what its tools are it asks the front door."""

import os
import select
import sys
import time
from contextlib import nullcontext
from threading import Thread
from typing import Any

import anyio
import mcp_types
from fastmcp.exceptions import ToolError
from fastmcp.prompts.base import InputRequiredPromptResult
from fastmcp.resources.base import InputRequiredResourceResult
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.providers.proxy import FastMCPProxy
from fastmcp.tools import ToolResult
from fastmcp.tools.base import InputRequiredToolResult
from mcp.shared.exceptions import MCPError

from federation.errors import FederationError, Refused
from federation.stub.door import FrontDoor

_ENDS_WITHIN_S = 5.0


class Signing(Middleware):
    """Has each call of a tool made, and signed, by the front door's client; says in its words what is wrong."""

    def __init__(self, door: FrontDoor) -> None:
        self._door = door

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Pass the request on."""
        try:
            # The call of a tool waits as long as it hears of progress.
            with nullcontext() if context.method == "tools/call" else self._door.patience():
                return self._told(await call_next(context))
        except FederationError as error:
            raise MCPError(code=mcp_types.INTERNAL_ERROR, message=str(error)) from error
        except (MCPError, RuntimeError) as error:
            try:
                # Where it cannot be asked at all, this says why.
                await self._door.tools()
            except FederationError as ours:
                raise MCPError(code=mcp_types.INTERNAL_ERROR, message=str(ours)) from error
            raise

    def _told(self, answer: Any) -> Any:
        """Return an answer. Raises Refused for one that is a question to the client: its folders, or what its user or its model would say."""
        if isinstance(answer, InputRequiredResourceResult | InputRequiredPromptResult | InputRequiredToolResult):
            raise Refused("A front door answers, and asks its client for nothing:", f"{self._door.url} asked, and was told nothing; look at its log.")
        return answer

    async def on_call_tool(
        self, context: MiddlewareContext[mcp_types.CallToolRequestParams], call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult]
    ) -> ToolResult:
        """Make the call; the proxy's own way is not gone."""
        asked, here = context.message, context.fastmcp_context
        assert here is not None
        try:
            answer = await self._door.call(asked.name, dict(asked.arguments or {}), progress=here.report_progress)
        except FederationError as error:
            raise ToolError(str(error)) from error
        return ToolResult(content=answer.content, structured_content=answer.structured_content, meta=answer.meta, is_error=answer.is_error)


def _end_with(client: int) -> None:
    """End the process some seconds after nobody writes to this file any more, whatever the front door keeps it waiting for."""
    left = select.poll()
    # Not for what is there to be read.
    left.register(client, getattr(select, "POLLRDHUP", 0))
    left.poll()
    time.sleep(_ENDS_WITHIN_S)
    os._exit(0)


def serve(door: FrontDoor) -> None:
    """Serve one client until its end of file. Raises DoorUnavailable, Unauthenticated, SettingsError where the front door does not take us."""

    async def run() -> None:
        await door.tools()
        proxy = FastMCPProxy(client_factory=door.client, identity="upstream", provider_error_strategy="raise", middleware=[Signing(door)])
        await proxy.run_stdio_async(show_banner=False)

    # A copy: the server takes this one for itself.
    Thread(target=_end_with, args=(os.dup(sys.stdin.fileno()),), daemon=True).start()
    anyio.run(run)
