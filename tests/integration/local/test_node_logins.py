"""`federation node` while a federation runs: what lets one node in runs its work, is replaced, ends, and is taken away alone."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from federation.delivery import leadership
from federation.local import children, node_roles, state
from federation.local.activemq import ADMIN, DOOR, RELAY, WORKER, connects, user_of_node
from federation.local.credentials import Credentials, load_or_make
from federation.local.home import Home
from federation.local.postgres import DATABASE, Postgres
from tests import forks
from tests.integration.local.stomp_clients import Client
from tests.integration.world import World

WITHIN_S = 240.0


class Local:
    """A federation that `federation up` keeps running, and its command line; to a World it is the broker, to a plain client a server."""

    host = "127.0.0.1"

    def __init__(self, data_dir: Path) -> None:
        self.home = Home(data_dir)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_") or name == "FEDERATION_CACHE_DIR"}
        self.environment = kept | {"FEDERATION_DATA_DIR": str(data_dir)}

    def __call__(self, *words: str, code: int = 0) -> str:
        folder, module = Path(tempfile.gettempdir()), "federation.cli.main"
        if words[0] in ("up", "down"):
            # What it leaves behind outlives it, and so must not be a fork of these tests.
            command = [sys.executable, "-m", module, *words]
            done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False, timeout=WITHIN_S)
        else:
            done = forks.run(module, *words, cwd=folder, env=self.environment, timeout_s=WITHIN_S)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout if code == 0 else done.stderr)

    def told(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    @property
    def credentials(self) -> Credentials:
        return load_or_make(self.home)

    @property
    def port(self) -> int:
        return self.credentials.activemq_port

    @property
    def passwords(self) -> dict[str, str]:
        return {**self.credentials.users, **{user_of_node(node): password for node, password in self.credentials.nodes.items()}}

    @property
    def url(self) -> str:
        return self.url_of(ADMIN)

    def url_of(self, user: str) -> str:
        return self.credentials.broker_url(user)

    @property
    def database(self) -> str:
        return Postgres(self.home.data_dir / "postgres", self.credentials.postgres_port).url(DATABASE)

    def sessions(self, node: str) -> int:
        return sum(one.sessions for one in node_roles.everybody(self.database) if one.node == node)

    def lets_in(self, given: dict[str, str]) -> tuple[bool, bool]:
        """Say whether PostgreSQL and ActiveMQ take a node with what its file gave it."""
        try:
            psycopg.connect(given["FEDERATION_DATABASE_SERVICE_URL"]).close()
            database = True
        except psycopg.OperationalError as error:
            if "password authentication failed" not in str(error):
                raise
            database = False
        broker = urlsplit(given["FEDERATION_BROKER_URL"])
        assert broker.username
        assert broker.password
        return database, connects(self.host, self.port, broker.username, broker.password)


@pytest.fixture
def local() -> Iterator[Local]:
    with tempfile.TemporaryDirectory(prefix="federation-nodes-") as folder:
        Path(folder).chmod(0o711)
        made = Local(Path(folder) / "data")
        try:
            made("up", "--detach", "--nodes", "baby")
            yield made
        finally:
            made("down", "--purge")


@pytest.fixture
def world(local: Local, tmp_path: Path) -> Iterator[World]:
    """The machine of the other nodes, with a data directory of its own."""
    urls = local.credentials.database_urls()
    app, service = urls["database_url"], urls["database_service_url"]
    made = World(tmp_path, owner_url=local.database, database_url=app, service_url=service, broker=local)
    yield made
    made.close()


def given(file: str) -> dict[str, str]:
    assert Path(file).stat().st_mode & 0o777 == 0o600
    lines = [line for line in Path(file).read_text().splitlines() if not line.startswith("#")]
    return dict(shlex.split(line)[0].split("=", 1) for line in lines)


def refusal(local: Local, node: str, other: str) -> str:
    client = Client(local, user_of_node(node))
    answer = client.read(f"/queue/federation.node.{other}")
    client.end()
    return answer


@pytest.mark.timeout(900)
def test_a_node_is_let_in_alone_and_shut_out_alone_while_all_others_go_on(local: Local, world: World) -> None:
    assert local("node", "list").startswith("No node has a login of its own.")
    assert "wants up to 40 small letters" in local("node", "add", "Apart", code=2)
    apart, other = world.node("apart"), world.node("other")
    first, theirs = (given(local.told("node", "add", node, "--days", "30")["file"]) for node in (apart, other))
    assert f"federation node rotate {apart}" in local("node", "add", apart, code=1)
    assert urlsplit(first["FEDERATION_DATABASE_URL"]).username == node_roles.name_of(apart)

    # Each runs what is for it, with nothing but what its file says.
    workers = {node: world.worker(node, **variables) for node, variables in ((apart, first), (other, theirs))}
    for node in (apart, other):
        assert world.result(world.record("tests.where", {}, node=node))["node"] == node
    assert world.result(world.record("tests.hand_on", {"to": other}, node=apart))
    assert local.sessions(apart) > 1
    shown = {one["name"]: one for one in local.told("node", "list")}
    states = {name: (one["database"], one["broker"], one["expired"]) for name, one in shown.items()}
    assert states == dict.fromkeys((apart, other), (True, True, False))
    assert (refusal(local, apart, apart), refusal(local, other, other)) == ("", "")
    assert "is not authorized to read from" in refusal(local, apart, other)

    # Another login: the former one is over for what is open, too; also where ActiveMQ hangs, which must start anew for that.
    running = state.running(local.home)
    assert running is not None
    [broker] = [part for part in running.parts if part.name == "activemq"]
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    second = given(local.told("node", "rotate", apart, "--days", "0")["file"])
    assert (local.lets_in(first), local.lets_in(second), local.lets_in(theirs)) == ((False, False), (True, True), (True, True))
    assert local.sessions(apart) == 0
    world.stop(workers[apart])
    world.worker(apart, **second)
    assert world.result(world.record("tests.where", {}, node=apart))["node"] == apart

    # One whose day has come.
    late = world.node("late")
    assert local.lets_in(given(local.told("node", "add", late, "--days", "0.0000001")["file"])) == (False, True)
    assert {one["name"]: one["expired"] for one in local.told("node", "list")} == {apart: False, other: False, late: True}

    # Shut out: nothing of it is left, and what is for it waits, while others have what is theirs.
    before = local.passwords
    reader = Client(local, user_of_node(apart))
    assert reader.read(f"/queue/federation.node.{apart}") == ""
    removed = local.told("node", "remove", apart)
    assert removed["sessions"] > 1
    assert len(removed["signers"]) == 1
    assert children.wait_until(lambda: not reader.connection.is_connected(), WITHIN_S)
    assert (local.lets_in(second), local.lets_in(theirs), local.sessions(apart)) == ((False, False), (True, True), 0)
    assert world.result(world.record("tests.where", {}, node=other))["node"] == other
    world.until(lambda: world.rows("SELECT 1 FROM nodes WHERE name = %s AND (left_at IS NOT NULL OR lost_at IS NOT NULL)", apart), "it is gone")
    mark = world.folder / "mark"
    world.record("tests.leave_a_mark", {"path": str(mark)}, node=apart)
    assert world.result(world.record("tests.where", {}, node=other))["node"] == other
    assert not mark.exists()
    assert {user: before[user] for user in (WORKER, DOOR, RELAY, user_of_node(other))}.items() <= local.passwords.items()
    world.until(lambda: "baby" in [node["name"] for node in local.told("status")["nodes"] if node["alive"]], "the machine's own node lives")
    assert f"nearest: {other}" in local("node", "remove", "other", code=1)
    events = world.rows(
        "SELECT type, actor, payload->>'renewed' FROM events WHERE stream = %s AND actor LIKE 'cli:%%' ORDER BY position", f"node:{apart}"
    )
    assert [(kind, renewed) for kind, _, renewed in events] == [("node.admitted", "false"), ("node.admitted", "true"), ("node.removed", None)]

    # And one whose day comes while its worker runs, and while it keeps beat from acting.
    holder = psycopg.connect(theirs["FEDERATION_DATABASE_SERVICE_URL"], autocommit=True)

    def holds() -> bool:
        holder.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", [leadership.LOCK])
        return holder.execute("SELECT pg_try_advisory_lock(%s)", [leadership.LOCK]).fetchone() == (True,)

    world.until(holds, "the node holds beat's lock")
    with psycopg.connect(local.database) as connection:
        for acting in node_roles.ACTING_AS:
            connection.execute(f"ALTER ROLE \"{node_roles.name_of(other, acting)}\" VALID UNTIL '2026-01-01'")
    world.until(lambda: local.sessions(other) == 0, "beat ends its sessions")
    assert local.lets_in(theirs)[0] is False
    assert not (local.home.nodes_dir / f"{apart}.env").exists()
    assert world.rows("SELECT count(*) FROM events WHERE payload::text LIKE %s", f"%{urlsplit(second['FEDERATION_BROKER_URL']).password}%") == [(0,)]


@pytest.mark.timeout(600)
def test_a_node_that_ends_all_sessions_and_does_not_end_itself_is_removed_with_one_call(local: Local) -> None:
    file = given(local.told("node", "add", "evil")["file"])
    stopped, locked = threading.Event(), threading.Event()

    def end_others(address: str, role: str) -> None:
        with suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as hostile:
            while not stopped.is_set():
                hostile.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])

    def hold() -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(file["FEDERATION_DATABASE_SERVICE_URL"]) as hostile:
            hostile.execute("LOCK TABLE streams, nodes IN ACCESS EXCLUSIVE MODE")
            locked.set()
            # PostgreSQL does not look up while it looks for a text in another: for hours.
            hostile.execute("SELECT strpos(repeat('a', 100000000), 'b' || repeat('a', 1000000))")

    of_each = [("FEDERATION_DATABASE_SERVICE_URL", "federation_service"), ("FEDERATION_DATABASE_URL", "federation_app")] * 2
    threads = [threading.Thread(target=hold), *(threading.Thread(target=end_others, args=(file[name], role)) for name, role in of_each)]
    for thread in threads:
        thread.start()
        assert locked.wait(60)
    try:
        assert "evil is shut out" in local("node", "remove", "evil")
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert local("node", "list").startswith("No node has a login of its own.")
    local("agent", "add", "ada", "--role", "lead")
    local("pulse")
