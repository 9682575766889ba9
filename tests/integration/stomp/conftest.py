"""A STOMP door on a real ActiveMQ and a real PostgreSQL, for all tests that leave it standing; and what speaks to it in bytes."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from federation.broker.frames import Decoder, Frame, encode
from federation.local.ports import LOOPBACK
from federation.services import agents, feeds
from tests.integration.delivery.conftest import opened
from tests.integration.world import World

WITHIN_S = 60.0
AGENTS = ("ada", "bob", "eve")


class Raw:
    """A client that writes what it is told to, byte for byte, and reads frames."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=WITHIN_S)
        self._decoder = Decoder()
        self._frames: list[Frame] = []

    def write(self, data: bytes) -> "Raw":
        self.socket.sendall(data)
        return self

    def say(self, command: str, body: bytes = b"", **headers: str) -> "Raw":
        return self.write(encode(command, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    def frame(self) -> Frame | None:
        """Return the next frame, None when the connection has ended."""
        while not self._frames:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def refusal(self) -> str:
        """Return what an ERROR says, after which the connection has ended."""
        error = self.frame()
        assert error is not None
        assert error.command == "ERROR", error
        assert error.body == b""
        assert self.frame() is None
        return error.headers["message"]

    def close(self) -> None:
        self.socket.close()


class House(World):
    """A world with a STOMP door and agents that may speak through it."""

    def settle(self) -> None:
        with self.transactions.begin("cli:tester") as session:
            self.tokens = {name: agents.add(session, name, "developer") for name in (*AGENTS, "dan")}
            for name in AGENTS:
                feeds.begin(session, name)
        self.door = self.stomp_door()
        self.opened: list[Raw] = []

    def raw(self) -> Raw:
        self.opened.append(Raw(self.stomp_port))
        return self.opened[-1]

    def logged_in(self, name: str, **headers: str) -> Raw:
        client = self.raw().say("CONNECT", accept_version="1.2", host="x", login=name, passcode=self.tokens[name], **headers)
        connected = client.frame()
        assert connected is not None
        assert connected.command == "CONNECTED", connected
        return client

    def part(self) -> None:
        for client in self.opened:
            client.close()
        self.opened.clear()


@pytest.fixture(scope="module")
def _house(postgres: Any, activemq: Any, stock: Any, watch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(postgres, activemq, stock, watch, tmp_path_factory.mktemp("house"), House) as made:
        assert isinstance(made, House)
        made.settle()
        yield made


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    """A door that is shared; what a test has opened is closed after it."""
    yield _house
    with contextlib.suppress(OSError):
        _house.part()
