"""A TCP proxy that is a bad network: it delays, cuts, half-closes, or vanishes without a word; knows nothing of STOMP."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Trouble = Literal["none", "close", "reset", "half-close"]
# Towards the broker, towards the client.
TO_BROKER, TO_CLIENT = 0, 1
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one connection: its trouble, after so many bytes both ways, and pauses before some pieces."""

    trouble: Trouble = "none"
    after_bytes: int = 0
    pause_chance: float = 0.0
    longest_pause_s: float = 0.0
    seed: str = ""


class Link:
    """One connection through the proxy: a thread for each direction."""

    def __init__(self, client: socket.socket, broker: socket.socket, fate: Fate, happened: Counter[str]) -> None:
        self._ends = (broker, client)
        self._fate, self._happened = fate, happened
        self._passed = 0
        # When its trouble came, as `time.monotonic` has it.
        self.trouble_at: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._vanished = threading.Event()
        self._threads = [threading.Thread(target=self._pump, args=(direction,), daemon=True) for direction in (TO_BROKER, TO_CLIENT)]

    def start(self) -> None:
        """Begin to pass on, both ways."""
        for thread in self._threads:
            thread.start()

    def vanish(self) -> None:
        """Pass nothing on any more, not even the end of a side."""
        self._vanished.set()

    def end(self) -> None:
        """Close both sides."""
        self._over.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()

    def _pump(self, direction: int) -> None:
        source, sink = self._ends[1 - direction], self._ends[direction]
        dice = random.Random(f"{self._fate.seed} {direction}")
        # Whoever is at the other side of a broken end may be gone already.
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                data = source.recv(65536)
                if self._vanished.is_set() or self._over.is_set():
                    return
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if dice.random() < self._fate.pause_chance:
                    self._happened["pause"] += 1
                    self._over.wait(dice.uniform(0, self._fate.longest_pause_s))
                keep = self._until_trouble(len(data))
                if keep is None:
                    sink.sendall(data)
                    continue
                sink.sendall(data[:keep])
                self._make_trouble(source, sink)
                return

    def _until_trouble(self, length: int) -> int | None:
        """Count bytes; return how many of these pass before the trouble, None if it is not due or was before."""
        with self._lock:
            before, self._passed = self._passed, self._passed + length
            due = self._fate.trouble != "none" and before < self._fate.after_bytes <= self._passed
            return self._fate.after_bytes - before if due else None

    def _make_trouble(self, source: socket.socket, sink: socket.socket) -> None:
        trouble = self._fate.trouble
        self._happened[trouble] += 1
        self.trouble_at = time.monotonic()
        if trouble == "half-close":
            # One direction ends; the other goes on. What still comes from the side that was cut off goes nowhere, unnoticed by it.
            sink.shutdown(socket.SHUT_WR)
            while source.recv(65536):
                pass
            return
        self._over.set()
        for end in self._ends:
            if trouble == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes the other thread; only SHUT_RDWR says an orderly end to the peer.
            end.shutdown(socket.SHUT_RD if trouble == "reset" else socket.SHUT_RDWR)
        if trouble == "reset":
            for end in self._ends:
                end.close()


class Proxy:
    """Listens on a free port of loopback and passes on to a broker; `fate_of` decides what happens to the n-th connection."""

    def __init__(self, host: str, port: int, fate_of: Callable[[int], Fate] = lambda number: Fate()) -> None:
        self._target, self._fate_of = (host, port), fate_of
        self._server = socket.create_server((LOOPBACK, 0))
        self._server.settimeout(0.05)
        self.port: int = self._server.getsockname()[1]
        self.happened: Counter[str] = Counter()
        self.links: list[Link] = []
        self._open = threading.Event()
        self._open.set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            if not self._open.wait(0.05):
                continue
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            try:
                broker = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            for end in (client, broker):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, broker, self._fate_of(len(self.links)), self.happened)
            # Known before the first byte passes: who has had an answer through it can make it vanish.
            self.links.append(link)
            link.start()

    def url(self, broker_url: str) -> str:
        """Return the broker's URL with the proxy's port."""
        parts = urlsplit(broker_url)
        return parts._replace(netloc=f"{parts.username}:{parts.password}@{LOOPBACK}:{self.port}").geturl()

    @property
    def troubles_at(self) -> list[float]:
        """When connections came to their trouble."""
        return [link.trouble_at for link in self.links if link.trouble_at is not None]

    def vanish(self) -> None:
        """Be a host without power: what is connected stays so and hears nothing, who connects waits."""
        self._open.clear()
        for link in self.links:
            link.vanish()

    def come_back(self) -> None:
        """Take new connections; the old ones stay dead."""
        self._open.set()

    def end(self) -> None:
        """Close all."""
        self._over.set()
        self._thread.join(10)
        for link in self.links:
            link.end()
        self._server.close()


@contextmanager
def proxy(host: str, port: int, fate_of: Callable[[int], Fate] = lambda number: Fate()) -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    running = Proxy(host, port, fate_of)
    try:
        yield running
    finally:
        running.end()
