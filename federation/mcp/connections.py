"""The front door's connections over HTTP: they are uvicorn's, and end when a request does not come in time; knows nothing of what is asked."""

import asyncio
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from federation.local.arrivals import HANDSHAKE_WITHIN_S, Arrivals

# Those over which no valid token has come: agents that all come back at once, for instance after a restart.
MOST_UNKNOWN = 1000
# A whole head from when it may come, and a whole body from its head on.
HEAD_WITHIN_S, BODY_WITHIN_S = 10.0, 120.0
# What a request's state has under this name tells its connection that a valid token has come.
_TELL = "federation.known"


class Recognition:
    """Tells the connection of a request that its token is valid, as soon as that is known: who waits for an answer is no stranger."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request, behind what looks at tokens."""
        if scope["type"] == "http" and scope["user"].is_authenticated:
            scope["state"][_TELL]()
        await self._app(scope, receive, send)


class Connection(HttpToolsProtocol):
    """One connection; `ended` is done when it has ended."""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], known: Callable[[], object]) -> None:
        super().__init__(config, server_state, {**app_state, _TELL: known})
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._requests = 0
        # Of which request what is awaited for how long, None: the client may begin one when he likes, which uvicorn bounds.
        self._awaited: tuple[int, float] | None = (0, HEAD_WITHIN_S)
        self._bounded: tuple[int, float] | None = None
        self._bound: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_bound()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._awaited = None
        self._set_bound()
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A request that comes in one piece costs no timer.
        if self._awaited is None and self.timeout_keep_alive_task is None and self.cycle.response_complete:
            # Line ends before a request are none, but uvicorn waits no more for one to begin.
            self._awaited = (self._requests, HEAD_WITHIN_S)
        self._set_bound()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._awaited = (self._requests, HEAD_WITHIN_S)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._awaited = (self._requests, BODY_WITHIN_S)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._requests += 1
        self._awaited = None

    def _set_bound(self) -> None:
        if self._awaited == self._bounded:
            return
        if self._bound is not None:
            self._bound.cancel()
        self._bounded = self._awaited
        self._bound = None if self._awaited is None else self.loop.call_later(self._awaited[1], self._end)

    def _end(self) -> None:
        if self.flow.read_paused:
            # What it has sent is not read now; that takes none of its time.
            self._bounded = None
            self._set_bound()
        else:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's, which takes in who connects itself: so it knows those too that have not ended their handshake or said anything."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self._listening = listening
        # Each is a file of this process.
        self._arrivals = Arrivals(min(MOST_UNKNOWN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._accepting = asyncio.ensure_future(self._arrivals.accept(self._listening, self._serve_client))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        self._listening.close()
        await super().shutdown(sockets=[])

    async def _serve_client(self, client: socket.socket) -> None:
        tls = self.config.ssl
        within_s = HANDSHAKE_WITHIN_S if tls else None
        connection = Connection(self.config, self.server_state, self.lifespan.state, partial(self._arrivals.known, client))
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client, ssl=tls, ssl_handshake_timeout=within_s)
        await connection.ended
