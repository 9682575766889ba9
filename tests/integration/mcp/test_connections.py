"""Who connects to the front door and says nothing, little, or a whole request without a token keeps nobody out, and who is known stays in."""

import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from federation import frontdoor
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.local.ports import LOOPBACK, free_port
from federation.mcp import connections
from tests import forks
from tests.integration.world import until

pytestmark = pytest.mark.anyio
# Of the front door's process, which has files of its own.
FILES = connections.MOST_UNKNOWN + 200
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def connect(port: int, trusted: ssl.SSLContext | None = None) -> socket.socket:
    made = socket.create_connection((LOOPBACK, port), timeout=60)
    return trusted.wrap_socket(made, server_hostname=LOOPBACK) if trusted else made


def status(client: socket.socket, request: bytes = HEALTH) -> int:
    """Return the status that a request is answered with."""
    client.sendall(request)
    answer = b""
    while not (found := re.match(rb"HTTP/1.1 (\d+) .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", answer, re.DOTALL | re.IGNORECASE)) or len(
        answer
    ) < found.end() + int(found[2]):
        data = client.recv(65536)
        assert data, answer
        answer += data
    return int(found[1])


def call(token: str, tool: str, length: int | None = None, **arguments: Any) -> bytes:
    """Return the request of a call of a tool; its head says another length if told."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-06-18\r\nContent-Length: {length or len(body)}\r\n\r\n"
    )
    return head.encode() + body


def is_open(client: socket.socket) -> bool:
    """Say whether nothing and no end has come."""
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        client.settimeout(60)
    return False


def ends(client: socket.socket) -> None:
    """Return when the door has ended it without a word, wait a minute for that."""
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


@pytest.fixture
def files() -> Iterator[None]:
    """As many files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def port(house: Any) -> int:
    """The port of a front door in this process."""
    return int(house.url.rpartition(":")[2])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: ", HEALTH], ids=["nothing", "half a request", "a request"])
def test_who_shows_no_token_keeps_nobody_out(
    postgres: Any, database: str, transactions: Any, tmp_path: Path, files: None, opened: ExitStack, said: bytes, tls: bool
) -> None:
    given = {"FEDERATION_DATA_DIR": str(tmp_path), "FEDERATION_MCP_PORT": str(free_port()), "FEDERATION_MCP_PROCESSES": "1"}
    given |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_BROKER_URL": "activemq://nobody:secret@127.0.0.1:9/",
    }
    given["FEDERATION_DATABASE_SERVICE_URL"] = postgres.as_role("federation_service", database)
    port, trusted = int(given["FEDERATION_MCP_PORT"]), None
    if tls:
        certificates = Certificates(Home(tmp_path).tls_dir)
        certificates.make([])
        given["FEDERATION_TLS"], trusted = "true", certificates.client_context()
    log = tmp_path / "door.log"
    with log.open("wb") as lines:
        door = forks.start("federation.cli.main", "serve", cwd=tmp_path, env=os.environ | given, stdout=lines)
    opened.callback(door.wait)
    opened.callback(door.kill)

    def answers() -> bool:
        assert door.poll() is None, log.read_text()
        with contextlib.suppress(OSError), connect(port, trusted) as client:
            return status(client) == 200
        return False

    until(answers, "the front door answers")
    resource.prlimit(door.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    for number in range(FILES + 50):
        # Those who say something have to end their handshake first; as all of them do that, it takes a while.
        client = opened.enter_context(connect(port, trusted if said else None))
        client.sendall(said)
        if number % 100 == 0:
            assert answers()
    assert answers()
    assert "not_accepted" not in log.read_text()


async def test_who_is_known_stays_in_and_is_answered_while_strangers_make_room(
    house: Any, port: int, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is read when the door begins, so this many come.
    waiting, idle = (opened.enter_context(connect(port)) for _ in range(2))
    waiting.sendall(call(house.tokens["bob"], "federation_inbox", wait_s=240))
    assert status(idle, call(house.tokens["eve"], "federation_pulse")) == 200
    await house.heard("inbox:bob")
    strangers = [opened.enter_context(connect(port)) for _ in range(connections.MOST_UNKNOWN + 5)]
    for stranger in strangers[:5]:
        await asyncio.to_thread(ends, stranger)
    assert all(is_open(client) for client in (waiting, idle, strangers[-1]))
    async with house.client("ada") as ada:
        await ada.call_tool("federation_send", {"content": "come", "to": "bob"})
    assert await asyncio.to_thread(status, waiting, b"") == 200
    assert await asyncio.to_thread(status, idle, call(house.tokens["eve"], "federation_pulse")) == 200


SLOW: dict[str, Callable[[str], tuple[bytes, bytes]]] = {
    "nothing": lambda token: (b"", b""),
    "a head": lambda token: (b"GET /health HTTP/1.1\r\n", b"a: b\r\n"),
    "line ends": lambda token: (b"", b"\r\n"),
    "a body": lambda token: (call(token, "federation_pulse", 10_000), b" "),
    "a body that nobody waits for": lambda token: (call("fed_unknown", "federation_pulse", 10_000), b" "),
    "a second head": lambda token: (HEALTH, b"a: b\r\n"),
    "line ends after a request": lambda token: (HEALTH, b"\r\n"),
}


@pytest.mark.parametrize("what", SLOW)
async def test_who_brings_a_request_bit_by_bit_is_let_go(
    house: Any, port: int, opened: ExitStack, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 1.0)
    monkeypatch.setattr(connections, "BODY_WITHIN_S", 1.5)
    # Otherwise uvicorn ends who is idle first.
    assert frontdoor.KEEP_ALIVE_S > 60
    first, bit = SLOW[what](house.tokens["bob"])
    client = opened.enter_context(connect(port))
    client.sendall(first)
    if what == "a second head":
        client.sendall(b"GET /health HTTP/1.1\r\n")
    client.settimeout(0.2)
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline, "it is still served"
        try:
            if not await asyncio.to_thread(client.recv, 65536):
                break
        except TimeoutError:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(bit)
        except ConnectionResetError:
            break
    assert await asyncio.to_thread(status, opened.enter_context(connect(port))) == 200
