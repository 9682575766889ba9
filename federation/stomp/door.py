"""The agents' door to ActiveMQ: lets in who brings the token of an agent that may speak STOMP, and turns out who may no more."""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from functools import partial

import anyio
from anyio import to_thread

from federation.errors import IssuerUnavailable, Refused, TransientError, Unauthenticated
from federation.local.arrivals import HANDSHAKE_WITHIN_S, Arrivals
from federation.mcp.callers import Callers
from federation.services import feeds
from federation.stomp.connection import Connection
from federation.stomp.pace import Pace
from federation.stomp.passing import Login
from federation.stomp.upstream import CHUNK_BYTES, Upstream
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

# Each is one of ActiveMQ's thousand, and two of a process's thousand files.
MOST_CONNECTIONS, MOST_OF_AN_AGENT, MOST_UNKNOWN = 400, 8, 64
LOOK_S = 2.0


class Door:
    """All connections of one process."""

    def __init__(self, transactions: Transactions, limiter: anyio.CapacityLimiter, callers: Callers, upstream: Upstream) -> None:
        self._transactions, self._limiter, self._callers, self._upstream = transactions, limiter, callers, upstream
        self._arrivals = Arrivals(MOST_UNKNOWN)
        self._known: dict[Connection, Login] = {}
        self._paces: dict[str, Pace] = {}

    async def accept(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take in who comes, over TLS where there is a context, for as long as it is not cancelled."""
        await self._arrivals.accept(listening, partial(self._serve, context))

    async def _serve(self, context: ssl.SSLContext | None, client: socket.socket) -> None:
        """Serve one client until its end."""

        async def admit(login: Login) -> tuple[str, Pace]:
            name = await self._check(login, await self._speakers())
            self._take_in(connection, client, name, login)
            return name, self._paces.setdefault(name, Pace())

        connection = Connection(*await _streams(client, context), self._upstream, admit)
        try:
            await connection.run()
        finally:
            self._known.pop(connection, None)

    def end(self) -> None:
        """End all connections."""
        self._arrivals.end_unknown()
        for connection in self._known:
            connection.end("this door closes; connect again in a while")

    async def watch(self) -> None:
        """End the connections of those who may speak no more, for as long as it is not cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._known:
                try:
                    await self._look()
                except TransientError as error:
                    # With PostgreSQL away who is in stays in: nothing that he says is heard without it.
                    logger.warning("stomp.not_looked reason=%s", error)
                except Exception:  # nobody else turns out who may no more
                    logger.exception("stomp.look_failed")

    async def _look(self) -> None:
        speakers = await self._speakers()
        for connection, login in list(self._known.items()):
            try:
                await self._check(login, speakers)
            except (Unauthenticated, Refused, IssuerUnavailable) as error:
                connection.end(str(error))
        in_use = {connection.agent for connection in self._known}
        # Who comes back at once is not faster for it.
        self._paces = {name: pace for name, pace in self._paces.items() if name in in_use or not pace.rested}

    async def _check(self, login: Login, speakers: Iterable[str]) -> str:
        """Return whose login it is. Raises Unauthenticated, Refused, DatabaseUnavailable, IssuerUnavailable."""
        try:
            caller = await self._callers.authenticate(login.token)
        except Unauthenticated as error:
            raise Unauthenticated(
                "the passcode is no valid token of an agent: it is unknown, expired or revoked; an operator gives another"
            ) from error
        name = caller.name
        if login.name not in {None, name}:
            raise Refused("Who speaks is known from the token alone:", f"the login is another name, and the token is {name}'s; leave the login out.")
        if name not in speakers:
            raise Refused(f"{name} may not speak STOMP:", f"an operator allows it with `federation agent stomp {name}`.")
        return name

    def _take_in(self, connection: Connection, client: socket.socket, name: str, login: Login) -> None:
        of_agents = Counter(other.agent for other in self._known)
        if of_agents[name] >= MOST_OF_AN_AGENT:
            raise Refused(f"{name} may have {MOST_OF_AN_AGENT} connections, and has.", "End one of them first.")
        if len(self._known) >= MOST_CONNECTIONS:
            raise Refused(f"This door takes {MOST_CONNECTIONS} connections, and has them.", "Connect again in a while.")
        if not self._arrivals.known(client):
            raise ConnectionResetError("it had to make room")
        connection.agent = name
        self._known[connection] = login

    async def _speakers(self) -> Iterable[str]:
        return await to_thread.run_sync(self._look_up_speakers, limiter=self._limiter)

    def _look_up_speakers(self) -> Iterable[str]:
        with self._transactions.single() as session:
            return feeds.speakers(session.connection()).keys()


async def _streams(client: socket.socket, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return both ways of a connection, after the handshake where there is one. Raises OSError."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK_BYTES)
    within_s = HANDSHAKE_WITHIN_S if context else None
    transport, protocol = await loop.connect_accepted_socket(
        lambda: asyncio.StreamReaderProtocol(reader), client, ssl=context, ssl_handshake_timeout=within_s
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
