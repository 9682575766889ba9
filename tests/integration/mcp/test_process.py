"""`federation serve` and `federation agent` as an operator starts them."""

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from federation.local.ports import free_port
from tests import forks

PROCESSES = 2
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(postgres: Any, database: str, transactions: Any, tmp_path: Path) -> dict[str, str]:
    """The settings of a process of ours; ActiveMQ is away."""
    return os.environ | {
        "FEDERATION_DATA_DIR": str(tmp_path),
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": "activemq://nobody:secret@127.0.0.1:9/",
        "FEDERATION_MCP_PORT": str(free_port()),
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a command of ours to its end."""

    def command(*arguments: str, says: str = "") -> "subprocess.CompletedProcess[str]":
        return forks.run("federation.cli.main", *arguments, cwd=tmp_path, env=environment, text=says, timeout_s=120)

    return command


@pytest.fixture
def door(environment: dict[str, str], tmp_path: Path) -> Iterator[forks.Started]:
    """A front door that answers."""
    with (tmp_path / "door.log").open("wb") as log:
        process = forks.start("federation.cli.main", "serve", cwd=tmp_path, env=environment, stdout=log)
    with answering(process, environment, tmp_path):
        yield process


@pytest.fixture
def door_alone(environment: dict[str, str], tmp_path: Path) -> Iterator[forks.Started]:
    """The same, of which no memory is shared with what it was forked from."""
    with (tmp_path / "door.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "federation.cli.main", "serve"], env=environment, stderr=log)
    with answering(process, environment, tmp_path):
        yield process


@pytest.fixture
def several(environment: dict[str, str], tmp_path: Path) -> Iterator[forks.Started]:
    """A front door of PROCESSES that answers."""
    environment["FEDERATION_MCP_PROCESSES"] = str(PROCESSES)
    with (tmp_path / "door.log").open("wb") as log:
        process = forks.start("federation.cli.main", "serve", cwd=tmp_path, env=environment, stdout=log)
    with answering(process, environment, tmp_path):
        yield process


def forks_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def answering(process: forks.Started, environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Wait until this front door answers, and kill it in the end."""
    try:
        deadline = time.monotonic() + 120
        while not answers(environment):
            assert process.poll() is None, (folder / "door.log").read_text()
            assert time.monotonic() < deadline, (folder / "door.log").read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def answers(environment: dict[str, str]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environment['FEDERATION_MCP_PORT']}/health", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def test_door_stays_small_and_ends_while_somebody_waits(door_alone: forks.Started, run: Run, environment: dict[str, str]) -> None:
    token = json.loads(run("agent", "add", "fay", "--role", "developer", "--json").stdout)["token"]

    async def wait_for_a_message() -> None:
        async with Client(StreamableHttpTransport(f"http://127.0.0.1:{environment['FEDERATION_MCP_PORT']}/mcp", auth=token)) as fay:
            await fay.call_tool("federation_delegate", {"description": "loads all that sending needs", "role": "lead"})
            waiting = asyncio.create_task(fay.call_tool("federation_inbox", {"wait_s": 300}))
            await asyncio.wait([waiting], timeout=0.5)
            for pid in (door_alone.pid, *forks_of(door_alone.pid)):
                summary = Path(f"/proc/{pid}/smaps_rollup").read_text()
                pss_kib = int(re.findall(r"^Pss: +(\d+)", summary, re.MULTILINE)[0])
                assert pss_kib < 150 * 1024
                mapped = Path(f"/proc/{pid}/maps").read_text()
                assert not [name for name in ("torch", "lancedb", "pyarrow", "numpy", "xllamacpp") if f"/{name}/" in mapped]
            door_alone.terminate()
            await asyncio.wait([waiting], timeout=60)
            assert waiting.done()
            assert waiting.exception() is not None

    asyncio.run(wait_for_a_message())
    door_alone.wait(60)
    assert not answers(environment)


def test_connections_are_spread_over_processes_and_outlive_the_death_of_one(several: forks.Started, environment: dict[str, str]) -> None:
    first, *_ = alive = forks_of(several.pid)
    assert len(alive) == PROCESSES
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(HTTPConnection("127.0.0.1", int(environment["FEDERATION_MCP_PORT"]), timeout=60))) for _ in range(32)
        ]
        os.kill(first, signal.SIGSTOP)
        for connection in connections:
            connection.request("GET", "/health")
        answered, known = -1, 0
        while answered != known:
            answered = known
            time.sleep(1)
            known = len(select.select([each.sock for each in connections], [], [], 0)[0])
        # Of 32 none or all at one of two processes would be one chance in 2,147,483,648.
        assert 0 < answered < len(connections)
        os.kill(first, signal.SIGKILL)
        statuses = []
        for connection in connections:
            # Who was connected to it asks again, as clients do.
            with suppress(ConnectionError):
                statuses.append(connection.getresponse().status)
        assert statuses.count(200) >= answered
    assert answers(environment)
    deadline = time.monotonic() + 60
    while len(forks_of(several.pid)) < PROCESSES:
        assert time.monotonic() < deadline, (forks_of(several.pid), several.poll())
        time.sleep(0.05)
    assert first not in forks_of(several.pid)
    several.terminate()
    assert several.wait(60) == -signal.SIGTERM
    assert not answers(environment)


def test_what_a_process_cannot_do_ends_the_door_with_its_status(environment: dict[str, str], tmp_path: Path, run: Run) -> None:
    # A folder that cannot be made for the key is found out by each process itself.
    (tmp_path / "keys").write_text("no folder")
    done = run("serve")
    assert done.returncode not in {0, -signal.SIGTERM}
    assert "federation:" in done.stderr


def test_idle_connection_stays_open_longer_than_clients_keep_theirs(door: forks.Started, environment: dict[str, str]) -> None:
    with closing(HTTPConnection("127.0.0.1", int(environment["FEDERATION_MCP_PORT"]), timeout=30)) as connection:
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        assert connection.sock is not None
        # Readable would mean that the server has closed it; httpx waits for 5 s.
        assert select.select([connection.sock], [], [], 6)[0] == []
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200


def test_taken_port_is_named(door: forks.Started, run: Run, environment: dict[str, str]) -> None:
    second = run("serve")
    assert second.returncode == 69
    assert f"FEDERATION_MCP_PORT: got {environment['FEDERATION_MCP_PORT']}, which cannot be had on 127.0.0.1" in second.stderr
    assert second.stderr.count("\n") == 1


def test_agents_are_added_listed_rotated_and_revoked(run: Run) -> None:
    added = json.loads(run("agent", "add", "gil", "--role", "analyst", "--json").stdout)
    assert (added["name"], added["role"]) == ("gil", "analyst")
    listed = {row["name"]: row for row in json.loads(run("agent", "list", "--json").stdout)}
    assert listed["gil"]["created_by"].startswith("cli:")
    rotated = run("agent", "rotate", "gil")
    assert rotated.stdout.strip().startswith("fed_")
    assert rotated.stdout.strip() != added["token"]
    token = rotated.stdout.strip()
    config = run("agent", "config", "gil", "--client", "vscode", "--token", "-", says=token)
    server = json.loads(config.stdout)["servers"]["federation"]
    assert server["headers"] == {"Authorization": f"Bearer {token}"}
    signing = json.loads(run("agent", "config", "gil", "--client", "cursor", "--sign", "--token", "-", says=token).stdout)["mcpServers"]["federation"]
    assert signing == {"command": "federation", "args": ["mcp", "--url", server["url"], "--as", "gil"], "env": {"FEDERATION_TOKEN": token}}
    assert "1 token revoked" in run("agent", "revoke", "gil").stdout
    assert server["url"].endswith("/mcp")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "gil", "--role", "leed"), "no role 'leed'; nearest: lead"),
        (("add", "ada", "--role", "lead"), "agent 'ada' exists already; rotate its token"),
        (("rotate", "adda"), "no agent 'adda'; nearest: ada"),
    ],
)
def test_refused_command_says_why_and_ends_with_1(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run("agent", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_a_stub_outlives_the_front_door(environment: dict[str, str], database: str, run: Run, tmp_path: Path) -> None:
    token = json.loads(run("agent", "add", "hal", "--role", "developer", "--json").stdout)["token"]
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    # No password of anything.
    given = {"FEDERATION_DATA_DIR": str(laptop), "FEDERATION_TOKEN": token, "PYTHONPATH": str(Path(__file__).parents[3])}
    url = f"http://127.0.0.1:{environment['FEDERATION_MCP_PORT']}/mcp"

    @contextmanager
    def served() -> Iterator[forks.Started]:
        with (tmp_path / "door.log").open("ab") as log:
            process = forks.start("federation.cli.main", "serve", cwd=tmp_path, env=environment, stdout=log)
        with answering(process, environment, tmp_path):
            yield process

    async def calls() -> None:
        arguments = ["-m", "federation.cli.main", "mcp", "--url", url, "--as", "hal"]
        with served() as door:
            client = Client(StdioTransport(sys.executable, arguments, env=given, cwd=str(laptop), log_file=tmp_path / "stub.log"))
            hal = await client.__aenter__()
            assert (await hal.call_tool("federation_send", {"content": "one", "conversation_id": "mine"})).data
            waiting = asyncio.create_task(hal.call_tool("federation_inbox", {"wait_s": 300}))
            await asyncio.wait([waiting], timeout=1)
            door.kill()
            with pytest.raises(ToolError, match=f"the front door at {url} does not answer .*call again"):
                await asyncio.wait_for(waiting, 60)
        with pytest.raises(ToolError, match=f"the front door at {url} does not answer .*call again"):
            await hal.call_tool("federation_send", {"content": "two", "conversation_id": "mine"})
        with pytest.raises(MCPError, match=f"the front door at {url} does not answer .*call again"):
            await hal.list_prompts()
        with served():
            await hal.call_tool("federation_send", {"content": "three", "conversation_id": "mine"})
            said = (await hal.call_tool("federation_history", {"conversation_id": "mine"})).structured_content
            await client.__aexit__(None, None, None)
        assert [one["content"] for one in said["messages"]] == ["one", "three"]
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT action, mode FROM statements").fetchall() == [("message.send", "signed")] * 2

    asyncio.run(calls())


def test_a_vote_over_the_front_door_needs_a_token_alone_and_is_signed(
    door: forks.Started, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    tokens = {name: json.loads(run("agent", "add", name, "--role", "developer", "--json").stdout)["token"] for name in ("hal", "ivy")}
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    given = {"PATH": os.environ["PATH"], "FEDERATION_DATA_DIR": str(laptop), "PYTHONPATH": str(Path(__file__).parents[3])}
    url = ("--url", f"http://127.0.0.1:{environment['FEDERATION_MCP_PORT']}/mcp", "--as", "hal")

    def vote(*arguments: str, token: str = tokens["hal"]) -> "subprocess.CompletedProcess[str]":
        return forks.run("federation.cli.main", "vote", "auth", *arguments, *url, cwd=laptop, env=given | {"FEDERATION_TOKEN": token}, timeout_s=120)

    environment["FEDERATION_TOKEN"] = tokens["ivy"]
    asked = run("consensus", "request", "Which?", "--option", "b", "--option", "a", "--mechanism", "ranked", "--voter", "hal", "--id", "auth")
    assert asked.returncode == 0, asked.stderr
    looked = vote("--json")
    assert looked.returncode == 0, looked.stderr
    shown = json.loads(looked.stdout)
    assert shown["options"] == ["b", "a"]
    early = vote("a", "b")
    assert early.returncode == 1
    assert "you have not acknowledged" in early.stderr
    done = vote("a", "b", "--acknowledge", shown["options_hash"], "--json")
    assert done.returncode == 0, done.stderr
    assert {name: json.loads(done.stdout)[name] for name in ("voter", "choice", "mode", "winner")} == {
        "voter": "hal",
        "choice": "2>1",
        "mode": "signed",
        "winner": "a",
    }
    assert "does not take the token" in vote(token="fed_x").stderr
