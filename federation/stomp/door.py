"""The agents' door to ActiveMQ: lets in who brings the token of an agent that may speak STOMP, and turns out who may no more."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Iterable

import anyio
from anyio import to_thread

from federation.errors import IssuerUnavailable, Refused, TransientError, Unauthenticated
from federation.mcp.callers import Callers
from federation.services import feeds
from federation.stomp.connection import Connection
from federation.stomp.pace import Pace
from federation.stomp.passing import Login
from federation.stomp.upstream import Upstream
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

# Each is one of ActiveMQ's thousand, and two of a process's thousand files.
MOST_CONNECTIONS, MOST_OF_AN_AGENT, MOST_UNKNOWN = 400, 8, 64
LOOK_S = 2.0
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4, socket.TCP_USER_TIMEOUT: 120_000}


class Door:
    """All connections of one process."""

    def __init__(self, transactions: Transactions, limiter: anyio.CapacityLimiter, callers: Callers, upstream: Upstream) -> None:
        self._transactions, self._limiter, self._callers, self._upstream = transactions, limiter, callers, upstream
        # In the order in which they came.
        self._unknown: dict[Connection, None] = {}
        self._known: dict[Connection, Login] = {}
        self._paces: dict[str, Pace] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until its end."""
        _keep_alive(writer.get_extra_info("socket"))

        async def admit(login: Login) -> tuple[str, Pace]:
            name = await self._check(login, await self._speakers())
            self._take_in(connection, name, login)
            return name, self._paces.setdefault(name, Pace())

        connection = Connection(reader, writer, self._upstream, admit)
        self._unknown[connection] = None
        if len(self._unknown) > MOST_UNKNOWN:
            # Who has a token needs a moment to show it: so nobody keeps others out by waiting here, or by not going when he is told to.
            longest = next(iter(self._unknown))
            del self._unknown[longest]
            longest.abort()
        try:
            await connection.run()
        finally:
            self._unknown.pop(connection, None)
            self._known.pop(connection, None)

    def end(self) -> None:
        """End all connections."""
        for connection in (*self._unknown, *self._known):
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

    def _take_in(self, connection: Connection, name: str, login: Login) -> None:
        of_agents = Counter(other.agent for other in self._known)
        if of_agents[name] >= MOST_OF_AN_AGENT:
            raise Refused(f"{name} may have {MOST_OF_AN_AGENT} connections, and has.", "End one of them first.")
        if len(self._known) >= MOST_CONNECTIONS:
            raise Refused(f"This door takes {MOST_CONNECTIONS} connections, and has them.", "Connect again in a while.")
        if connection not in self._unknown:
            raise ConnectionResetError("it had to make room")
        connection.agent = name
        del self._unknown[connection]
        self._known[connection] = login

    async def _speakers(self) -> Iterable[str]:
        return await to_thread.run_sync(self._look_up_speakers, limiter=self._limiter)

    def _look_up_speakers(self) -> Iterable[str]:
        with self._transactions.single() as session:
            return feeds.speakers(session.connection()).keys()


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out that a client without heart-beats is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
