"""`federation up`, `status`, `down` as a person runs them, with the real parts and one node."""

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kombu
import psycopg
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation import charter
from federation.broker.errors import BrokerError
from federation.cli.fleet import answers_http
from federation.local import children

WITHIN_S = 240.0
DEFAULT_PORT = 8765


class Machine:
    """The command line with a data directory of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
        cache = {name: value for name, value in os.environ.items() if name == "FEDERATION_CACHE_DIR"}
        self.environment = clean | cache | {"FEDERATION_DATA_DIR": str(data_dir)}

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "federation.cli.main", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, str]:
        process = self.popen(*arguments)
        told, _ = process.communicate(timeout=WITHIN_S)
        return process.returncode, told

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self("status", "--json")[1])
        return told

    def part(self, name: str) -> dict[str, Any]:
        part: dict[str, Any] = next(part for part in self.status()["parts"] if part["name"] == name)
        return part

    def pids(self) -> set[int]:
        """Every living process that works in the data directory or was told of it."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and children.is_alive(int(entry.name)):
                try:
                    words, folder = (entry / "cmdline").read_text(), str((entry / "cwd").readlink())
                except OSError:
                    continue
                if str(self.data_dir) in words or folder.startswith(str(self.data_dir)):
                    found.add(int(entry.name))
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Not tmp_path: root's PostgreSQL runs as nobody, who cannot enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="federation-up-") as folder:
        Path(folder).chmod(0o711)
        # With all that a path may hold and programs stumble over, and longer than the path of a Unix socket may be.
        made = Machine(Path(folder) / "My data – [ü] 100%" / ("long" * 30))
        yield made
        made("down", "--purge")


def flower_shows_and_does_not_command(url: str) -> None:
    parts = urlsplit(url)
    login = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    node = f"baby@{socket.gethostname()}"

    def ask(path: str, **more: Any) -> str:
        request = urllib.request.Request(f"http://{parts.hostname}:{parts.port}{path}", headers={"Authorization": f"Basic {login}"}, **more)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def status(path: str, login: str | None) -> int:
        headers = {} if login is None else {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://{parts.hostname}:{parts.port}{path}", headers=headers), timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def is_known() -> bool:
        # Asked of the worker itself: until it has answered once, Flower does not know it.
        return node in ask("/api/workers?refresh=true")

    assert children.wait_until(is_known, WITHIN_S)
    assert "worker-shutdown" not in ask(f"/worker/{node}")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(f"/api/worker/shutdown/{node}", method="POST", data=b"")
    for path in ("/", "/workers", "/broker", f"/worker/{node}", "/api/workers", "/metrics"):
        for wrong in (None, f"{parts.username}:", f"{parts.username}:{parts.password}x"):
            assert status(path, wrong) == 401, (path, wrong)
        assert status(path, f"{parts.username}:{parts.password}") == 200, path


@pytest.mark.timeout(900)
def former_passwords_end_with_the_next_start(machine: Machine, before: dict[str, Any]) -> None:
    def connects(url: str) -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return False
            raise
        return True

    def url(name: str, key: str) -> str:
        return str(json.loads((machine.data_dir / name).read_text())[key])

    kept = url("settings.json", "database_auditor_url")
    assert machine("passwords", "rotate", "federation_ap") == (
        1,
        "federation: no user 'federation_ap'; nearest: federation_app, federation_auditor, federation_owner\n",
    )
    code, told = machine("passwords", "rotate", "federation_app", "operator", "flower")
    assert code == 0, told
    code, told = machine("up", "--detach", "--nodes", "baby")
    assert code == 0, told
    after = machine.status()
    assert [node["name"] for node in after["nodes"] if node["alive"]] == ["baby"]
    ours = urlsplit(after["database_url"])
    assert ours.password != urlsplit(before["database_url"]).password
    assert connects(after["database_url"])
    assert not connects(ours._replace(netloc=f"{urlsplit(before['database_url']).netloc.rpartition(':')[0]}:{ours.port}").geturl())
    assert connects(kept)
    with kombu.Connection(after["broker_url"]) as connection:
        connection.ensure_connection(max_retries=1)
    with pytest.raises(BrokerError, match="password"):
        former = urlsplit(before["broker_url"])
        now = urlsplit(after["broker_url"])
        kombu.Connection(now._replace(netloc=f"{former.netloc.rpartition(':')[0]}:{now.port}").geturl()).transport.establish_connection()
    assert after["flower_password"] != before["flower_password"]
    assert machine("down")[0] == 0


def test_a_day_in_the_life(machine: Machine) -> None:
    assert machine("status")[0] == 3

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another federation here has it
            stack.enter_context(socket.create_server(("127.0.0.1", DEFAULT_PORT)))
        code, told = machine("up", "--detach", "--nodes", "baby")
    assert code == 0, told
    status = machine.status()
    assert status["running"]
    [notice] = [line for line in told.splitlines() if line.startswith(f"Port {DEFAULT_PORT} of the front door is taken")]
    assert notice.endswith(f"; from now on it is {urlsplit(status['mcp_url']).port}.")
    assert notice in (machine.data_dir / "logs" / "supervisor.log").read_text()
    for key in ("broker_url", "database_url", "result_backend", "mcp_url", "stomp_url", "flower_url", "data_dir"):
        assert status[key], key
    assert [node["name"] for node in status["nodes"] if node["alive"]] == ["baby"]
    assert {part["name"]: part["state"] for part in status["parts"]} == {
        "postgres": "running",
        "activemq": "running",
        "migrations": "done",
        "baby": "running",
        "beat": "running",
        "flower": "running",
        "frontdoor": "running",
        "stomp": "running",
    }
    flower_shows_and_does_not_command(status["flower_url"])
    password = status["flower_password"]
    assert password not in machine("status")[1]
    assert password not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "BrokerService: Apache ActiveMQ" in (machine.data_dir / "logs" / "activemq.log").read_text()
    for secret in ("settings.json", "secrets.json"):
        assert (machine.data_dir / secret).stat().st_mode & 0o777 == 0o600

    code, told = machine("up", "--detach")
    assert code == 0
    assert f"running already (pid {status['pid']})" in told
    code, told = machine("up", "--detach", "--charter", str(charter.path()))
    assert code == 1
    assert "first: federation down" in told
    code, told = machine("passwords", "rotate")
    assert code == 1
    assert "first: federation down" in told

    victim = machine.part("frontdoor")["pid"]
    os.kill(victim, signal.SIGKILL)
    assert children.wait_until(lambda: machine.part("frontdoor")["restarts"] == 1 and machine.part("frontdoor")["state"] == "running", WITHIN_S)
    assert machine.part("frontdoor")["last_exit"] == "signal SIGKILL"
    assert "part.died part=frontdoor how=signal SIGKILL" in (machine.data_dir / "logs" / "supervisor.log").read_text()

    pids = machine.pids()
    assert len(pids) > 6
    assert machine("down") == (0, "Stopped.\n")
    assert machine.part("beat")["last_exit"].endswith(", as asked")
    assert children.wait_until(lambda: not any(children.is_alive(pid) for pid in pids), WITHIN_S)
    assert machine("status")[0] == 3

    former_passwords_end_with_the_next_start(machine, status)

    assert machine("down", "--purge")[0] == 0
    assert not machine.data_dir.exists()
    assert "nothing to remove" in machine("down", "--purge")[1]


def test_interrupted_start_leaves_no_process(machine: Machine) -> None:
    process = machine.popen("up", "--detach", "--nodes", "baby")
    assert children.wait_until(lambda: len(machine.pids()) > 2, WITHIN_S)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert children.wait_until(lambda: not machine.pids(), WITHIN_S)


def test_unknown_node_is_named_with_the_nearest(machine: Machine) -> None:
    code, told = machine("up", "--nodes", "tachi")
    assert code == 1
    assert "'tachi'" in told
    assert "taichi" in told
    assert not machine.data_dir.exists()


def test_a_port_that_was_demanded_and_is_taken_is_named(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        machine.environment["FEDERATION_MCP_PORT"] = str(taken.getsockname()[1])
        code, told = machine("up", "--detach", "--nodes", "baby")
    assert code == 69
    assert "FEDERATION_MCP_PORT" in told
    assert children.wait_until(lambda: not machine.pids(), WITHIN_S)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_with_tls_all_services_speak_it_and_nothing_else(machine: Machine) -> None:
    code, told = machine("up", "--tls", "--detach", "--nodes", "baby")
    assert code == 2
    assert "federation tls init" in told
    assert machine("tls", "init", "--host", "fed.example")[0] == 0

    code, told = machine("up", "--tls", "--detach", "--nodes", "baby")
    assert code == 0, told
    status = machine.status()
    assert status["mcp_url"].startswith("https://")
    assert status["flower_url"].startswith("https://")
    authority = str(machine.data_dir / "tls" / "ca.pem")
    trusted = ssl.create_default_context(cafile=authority)
    for key in ("mcp_url", "flower_url"):
        url = urlsplit(status[key])
        assert url.port is not None
        assert answers_http("127.0.0.1", url.port, "/", trusted)()
        assert not answers_http("127.0.0.1", url.port, "/")()
    with pytest.raises(BrokerError):
        clear = status["broker_url"].replace("activemqs:", "activemq:").partition("?")[0]
        kombu.Connection(clear, connect_timeout=60).transport.establish_connection()
    with psycopg.connect(status["database_url"]) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
        psycopg.connect(status["database_url"], sslmode="disable")
    for name in ("postgres-tls", "postgres"):
        os.kill(machine.part(name)["pid"], signal.SIGKILL)
        assert children.wait_until(lambda name=name: machine.part(name)["restarts"] == 1 and machine.part(name)["state"] == "running", WITHIN_S)
        with psycopg.connect(status["database_url"]) as connection:
            assert connection.pgconn.ssl_in_use
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "federation",
        "inspect",
        "ping",
        "--timeout",
        "60",
        "--destination",
        f"baby@{socket.gethostname()}",
    ]
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, check=False)
    assert "1 node online" in done.stdout, done.stdout + done.stderr
    assert machine("agent", "add", "ada", "--role", "lead")[0] == 0
    lines = machine("agent", "config", "ada", "--client", "claude-code")[1]
    assert authority in lines
    assert '"https://' in lines
    told = machine("doctor")[1]
    assert "the first certificate to end" in told
    assert "stunnel" in told

    code, told = machine("up", "--no-tls", "--detach")
    assert code == 1
    assert "is running with TLS" in told
