"""One request of MCP over HTTP and its answer, for clients that begin with a handshake: in JSON, and as a stream of events where it takes long.

The library serves the newest revision so, and each call of an older one by a session of its own, with queues and tasks that cost more than what
most calls do. What is no plain request goes that way still, which also says what is wrong with it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import pydantic_core
from fastmcp import FastMCP
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import modern_error_data, serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE, RequestBodyLimitMiddleware
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import DEFAULT_NEGOTIATED_VERSION, JSONRPCRequest, ProgressToken, RequestId
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Whoever waits hears this often that he is not forgotten, and no proxy between takes the connection for dead.
PING_S = 15.0
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]


class Exchange:
    """Answers plain requests of the handshake's revisions by itself, and leaves all else to the library's application."""

    def __init__(self, app: ASGIApp, server: Server[Any]) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)
        if version not in HANDSHAKE_PROTOCOL_VERSIONS or not _takes_either(request):
            await self._app(scope, receive, send)
            return
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        try:
            asked = JSONRPCRequest.model_validate_json(body, by_name=False)
        except ValidationError:
            await self._app(scope, _again(body, receive), send)
            return
        answer = _Answer(send, asked.id, request, progress_token_from_params(asked.params))
        told: bytes | None = None
        with anyio.CancelScope() as doing:
            attending = asyncio.create_task(answer.attend(receive, doing))
            try:
                told = await self._told(asked, version, answer)
            except asyncio.CancelledError:
                # Its client has gone, or the server ends what still waits when the door closes.
                if not doing.cancel_called:
                    await answer.close(scope, receive)
                    return
                raise
            finally:
                attending.cancel()
        if told is not None:
            await answer.end(scope, receive, told)

    async def _told(self, asked: JSONRPCRequest, version: str, answer: "_Answer") -> bytes:
        connection = Connection.from_envelope(version, None, None)
        try:
            # The tools keep nothing beside the door.
            result = await serve_one(self._server, answer, asked.method, asked.params, connection=connection, lifespan_state={})
            return pydantic_core.to_json({"jsonrpc": "2.0", "id": asked.id, "result": result})
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told that it failed, and the log what
            said = modern_error_data(error).model_dump(by_alias=True, exclude_none=True)
            return pydantic_core.to_json({"jsonrpc": "2.0", "id": asked.id, "error": said})


def exchange(app: Starlette, path: str, server: FastMCP[Any]) -> None:
    """Have a web application of FastMCP's that keeps no sessions answer plain requests at a path so, behind what asks for the token."""
    [guard] = [route.app for route in app.routes if isinstance(route, Route) and route.path == path]
    guarded: Any = guard
    guarded.app = RequestBodyLimitMiddleware(Exchange(guarded.app, server._mcp_server), DEFAULT_MAX_REQUEST_BODY_SIZE)


def _takes_either(request: Request) -> bool:
    """Return whether it brings JSON by POST and takes as an answer JSON and a stream alike, as clients have to."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    return request.method == "POST" and kind == "application/json" and all(check_accept_headers(request))


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read once more."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return again


@dataclass
class _Answer:
    """What the library calls the context of a dispatch: the way back to who asked, for as long as he is answered."""

    send: Send
    request_id: RequestId
    request: Request
    progress_token: ProgressToken | None
    # To ask him something his answer would have to come over another connection, to whichever process.
    can_send_request: bool = False
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    # One message after the other, and nothing before the head.
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _streams: bool = False

    @property
    def transport(self) -> TransportContext:
        return TransportContext(kind="streamable-http", can_send_request=False, headers=self.request.headers)

    @property
    def message_metadata(self) -> MessageMetadata:
        return ServerMessageMetadata(request_context=self.request)

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> dict[str, Any]:
        """Refuse to ask the client anything. Raises NoBackChannelError."""
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something before the answer."""
        said: dict[str, Any] = {"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params})
        await self._push(_event(pydantic_core.to_json(said)), more=True)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the client how far it is, if it wants to know."""
        if self.progress_token is not None:
            said = {"progressToken": self.progress_token, "progress": progress, "total": total, "message": message}
            await self.notify("notifications/progress", {name: value for name, value in said.items() if value is not None})

    async def attend(self, receive: Receive, doing: anyio.CancelScope) -> None:
        """End what is done for a client when it goes; until then let it hear now and then that it is waited for."""
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    while (await receive())["type"] != "http.disconnect":
                        pass
            except TimeoutError:
                await self._push(b": ping\r\n\r\n", more=True)
            else:
                doing.cancel()
                return

    async def end(self, scope: Scope, receive: Receive, told: bytes) -> None:
        """Give the answer."""
        if self._streams:
            await self._push(_event(told), more=False)
        else:
            await Response(told, media_type="application/json")(scope, receive, self.send)

    async def close(self, scope: Scope, receive: Receive) -> None:
        """Give no answer, because the door closes: who asked is to call again."""
        if self._streams:
            await self._push(b"", more=False)
        else:
            await JSONResponse({"error": "the front door closes; call again"}, 503, {"Retry-After": "5"})(scope, receive, self.send)

    async def _push(self, part: bytes, *, more: bool) -> None:
        async with self._turn:
            if not self._streams:
                await self.send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                self._streams = True
            await self.send({"type": "http.response.body", "body": part, "more_body": more})


def _event(told: bytes) -> bytes:
    return b"event: message\r\ndata: " + told + b"\r\n\r\n"
