"""Takes in who connects to a port, and keeps only so many of whom it is not known who they are; reads and writes nothing."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

# Of a TLS handshake.
HANDSHAKE_WITHIN_S = 10.0
# When the machine has no room for who comes.
NO_ROOM_S = 0.5
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4, socket.TCP_USER_TIMEOUT: 120_000}


class Arrivals:
    """The connections of a port, those whose handshake is not over too; each is unknown until `known` is told of it."""

    def __init__(self, most_unknown: int) -> None:
        self._most_unknown = most_unknown
        # In the order in which they came.
        self._unknown: dict[socket.socket, None] = {}
        # The loop itself keeps no task alive.
        self._serving: set[asyncio.Task[None]] = set()

    async def accept(self, listening: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Have each that comes served until its end, for as long as it is not cancelled."""
        listening.setblocking(False)
        # Whoever is accepted has it from the socket that listens.
        _keep_alive(listening)
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("arrivals.not_accepted reason=%s", error)
                await asyncio.sleep(NO_ROOM_S)
                continue
            task = asyncio.create_task(self._serve(client, serve))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            # Who waits is accepted without a turn of the loop, in which those who are hung up on would go.
            await asyncio.sleep(0)

    async def _serve(self, client: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._unknown[client] = None
        if len(self._unknown) > self._most_unknown:
            # Who has a token needs a moment to show it: so nobody keeps others out by waiting here, or by not going when he is told to.
            longest = next(iter(self._unknown))
            del self._unknown[longest]
            _hang_up(longest)
        try:
            await serve(client)
        except OSError as error:
            logger.debug("arrivals.broken reason=%s", error)
        finally:
            self._unknown.pop(client, None)

    def known(self, client: socket.socket) -> bool:
        """Say whether this one, of whom it is known from now on who he is, has not had to make room before."""
        if client not in self._unknown:
            return False
        del self._unknown[client]
        return True

    def end_unknown(self) -> None:
        """End the connections of those who are not known yet."""
        for client in self._unknown:
            _hang_up(client)


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out that a client without heart-beats is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _hang_up(client: socket.socket) -> None:
    """End a connection whatever it is at; its transport finds that out."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
