"""A wire that is listened to: passes bytes on both ways and keeps them; knows nothing of what they say."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from federation.local.ports import LOOPBACK


class Tap:
    """Listens on a free port of loopback and passes all on to another."""

    def __init__(self, port: int) -> None:
        self._target = (LOOPBACK, port)
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        # Of each connection what its client said first, and of all of them all that was said.
        self.beginnings: list[bytes] = []
        self._heard: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def heard(self) -> bytes:
        """All that went over the wire until now, piece by piece."""
        return b"".join(self._heard)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._ends += [client, server]
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        first = from_client
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if first:
                    self.beginnings.append(data)
                    first = False
                self._heard.append(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Close all."""
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def tapped(port: int) -> Iterator[Tap]:
    """Listen to a server's wire until the block ends."""
    tap = Tap(port)
    try:
        yield tap
    finally:
        tap.end()
