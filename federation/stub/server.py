"""The front door's tools, resources and prompts over standard input and output; what its tools are it asks the front door."""

from typing import Any

import anyio
import mcp_types
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.providers.proxy import FastMCPProxy
from fastmcp.tools import ToolResult
from mcp.shared.exceptions import MCPError

from federation.errors import FederationError
from federation.stub.door import FrontDoor


class Signing(Middleware):
    """Has each call of a tool made, and signed, by the front door's client; says in its words what is wrong."""

    def __init__(self, door: FrontDoor) -> None:
        self._door = door

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Pass the request on."""
        try:
            return await call_next(context)
        except (MCPError, RuntimeError) as error:
            try:
                # Where it cannot be asked at all, this says why.
                await self._door.tools()
            except FederationError as ours:
                raise MCPError(code=mcp_types.INTERNAL_ERROR, message=str(ours)) from error
            raise

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


def serve(door: FrontDoor) -> None:
    """Serve one client until its end of file. Raises DoorUnavailable, Unauthenticated, SettingsError where the front door does not take us."""

    async def run() -> None:
        await door.tools()
        proxy = FastMCPProxy(client_factory=door.client, identity="upstream", provider_error_strategy="raise", middleware=[Signing(door)])
        await proxy.run_stdio_async(show_banner=False)

    anyio.run(run)
