"""The front door: MCP over streamable HTTP with a health page, or over stdio; reads the settings and binds the port."""

import gc
import logging
import os
import re
import resource
import socket
from typing import Any
from urllib.parse import urlsplit

import anyio
import uvicorn
from sqlalchemy import text
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federation.a2a import rpc
from federation.charter import charter
from federation.delivery import logs
from federation.delivery.app import application, database_url
from federation.delivery.runtime import take_short_turns, transactions
from federation.delivery.signer import act_as
from federation.delivery.voices import agent_voice
from federation.errors import DatabaseUnavailable, IssuerUnavailable, SettingsError
from federation.local.certificates import DOOR, usable
from federation.local.copies import multiply
from federation.local.elsewhere import check_database
from federation.local.ports import listen, listen_shared
from federation.mcp.connections import Recognition, Server
from federation.mcp.door import PART, Door
from federation.mcp.exchange import exchange
from federation.mcp.server import build
from federation.mcp.where import PATH
from federation.settings import settings

# Of one each for a processor, where nobody says how many.
MOST_PROCESSES = 4
# Who waits for an inbox when the door closes is let go after this, and asks again.
CLOSE_WITHIN_S = 2
# Longer than clients keep an idle connection (httpx 5 s, Node and proxies up to a minute): whoever closes first must be the one that would send
# on it, or a call now and then meets a connection that is just being closed.
KEEP_ALIVE_S = 90


_METADATA = re.compile(r'resource_metadata="[^"]*"')


class PlainRefusals:
    """Says 401 without a word of why, and 503 where the token cannot be looked up because PostgreSQL or the issuer is away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        withheld: int | None = None
        challenge = "Bearer"

        async def watch(message: Message) -> None:
            nonlocal withheld, challenge
            if message["type"] == "http.response.start" and message["status"] in {401, 500}:
                withheld = message["status"]
                said = Headers(raw=message["headers"]).get("www-authenticate", "")
                # Of all that is said about why, only where to get a token (RFC 9728).
                if found := _METADATA.search(said):
                    challenge = f"Bearer {found.group()}"
            if withheld is None:
                await send(message)

        try:
            await self._app(scope, receive, watch)
        except (DatabaseUnavailable, IssuerUnavailable) as error:
            # Starlette has begun a 500 of its own before it lets the error through; that one is withheld.
            await JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if withheld is not None:
            await Response(status_code=withheld, headers={"WWW-Authenticate": challenge} if withheld == 401 else None)(scope, receive, send)


def web(door: Door, *, hosts: list[str] | None = None) -> ASGIApp:
    """Return the web application for a Server: MCP at /mcp and A2A at /a2a for those with a token, /health and the agent card for everybody.

    `hosts` are names it answers to beside its own.
    """
    server = build(door)

    @server.custom_route("/health", methods=["GET"])
    async def health(_: Request) -> Response:
        try:
            await anyio.to_thread.run_sync(_ask_database, door, limiter=door.limiter)
        except DatabaseUnavailable as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    rpc.serve(server, door)
    # Stateless for the older handshake too, so that its clients go on after a restart of the door as those of the newer revision do.
    behind = [Middleware(Recognition)]
    app = server.http_app(path=PATH, stateless_http=True, host_origin_protection=True, allowed_hosts=hosts, middleware=behind)
    exchange(app, PATH, server)
    return PlainRefusals(app)


def _ask_database(door: Door) -> None:
    with door.transactions.begin("door") as session:
        session.execute(text("SELECT 1"))


def _log(level: str, *, as_json: bool) -> None:
    logs.configure(level, as_json=as_json)
    # FastMCP brings a handler of its own; one form for all lines is enough.
    theirs = logging.getLogger("fastmcp")
    theirs.handlers.clear()
    theirs.propagate = True


def serve() -> None:
    """Serve over HTTP, in several processes, until a signal ends it.

    Raises SettingsError, KeyRevoked, DatabaseUnavailable, LocalServiceError for a taken port.
    """
    config = settings()
    charter()
    _log(config.log_level, as_json=config.log_json)
    certificates = usable(config)
    check_database(config)
    count = config.mcp_processes or min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    sockets = listen_shared(config.mcp_host, config.mcp_port, count) if count > 1 else [listen(config.mcp_host, config.mcp_port)]
    # The others' stay open in each: who knocks at one that is made again meanwhile waits for it.
    listening = sockets[multiply(count) if count > 1 else 0]
    act_as(PART)
    amqp: Any = application().amqp
    # What the first call sends must not wait for it.
    amqp.signer.register()
    door = Door(transactions(), config, database_url=database_url(config))
    public = urlsplit(config.mcp_url or "").hostname
    hosts = [socket.gethostname(), *([public] if public else []), *config.mcp_allowed_hosts]
    app = web(door, hosts=hosts)
    take_short_turns()
    # Each connection takes a file: of these there are as many as the system gives a process.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # What is there by now stays, and need not be looked through again and again.
    gc.freeze()
    with listening:
        given = uvicorn.Config(
            app,
            ssl_certfile=certificates.certificate(DOOR) if certificates else None,
            ssl_keyfile=certificates.key(DOOR) if certificates else None,
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CLOSE_WITHIN_S,
        )
        Server(given, listening).run()


def serve_stdio() -> None:
    """Serve one client over standard input and output, and sign what he states with his key.

    Raises SettingsError, KeyRevoked, Unauthenticated, DatabaseUnavailable.
    """
    config = settings()
    charter()
    _log("WARNING", as_json=config.log_json)
    if config.token is None:
        raise SettingsError("FEDERATION_TOKEN is not set: over stdio it says who you are; get one with `federation agent add NAME --role ROLE`")
    check_database(config)
    door = Door(transactions(), config, database_url=database_url(config), token=config.token.get_secret_value())

    async def run() -> None:
        name = (await door.access.caller()).name
        door.voice = await anyio.to_thread.run_sync(agent_voice, config, door.transactions, name)
        await build(door).run_stdio_async(show_banner=False)

    anyio.run(run)
