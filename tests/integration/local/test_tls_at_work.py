"""Work over TLS alone: a worker, the front door and who waits speak to ActiveMQ and PostgreSQL over wires that are listened to."""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from celery import Celery
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from pydantic import SecretStr

from federation.cli.fleet import answers_http
from federation.local import children, jars, node_roles, node_settings
from federation.local.activemq import ADMIN, DOOR, USERS, WORKER, ActiveMQ, user_of_node
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.local.parts import Part, spawn
from federation.local.ports import LOOPBACK, keep_or_choose
from federation.local.postgres import DATABASE, OWNER, ROLES, Postgres
from federation.results.tables import create_all
from federation.services import agents
from federation.settings import Settings, settings
from tests import forks
from tests.integration.local.tapped import Tap, tapped
from tests.integration.world import World

WITHIN_S = 120.0
# What a client of PostgreSQL asks before TLS begins, and how a handshake begins.
WANTS_TLS, HANDSHAKE = bytes.fromhex("0000000804d2162f"), b"\x16\x03"


@contextmanager
def running(logs: Path, *all_parts: Part) -> Iterator[None]:
    processes = []
    for part in all_parts:
        part.prepare()
        processes.append(spawn(part, logs / f"{part.name}.log"))
    try:
        assert children.wait_until(lambda: all(part.is_ready() for part in all_parts), WITHIN_S), [log.read_text() for log in logs.glob("*.log")]
        yield
    finally:
        for part, process in zip(all_parts, processes, strict=True):
            children.stop(process, part.stop_signal, grace_s=part.grace_s)


@dataclass(frozen=True)
class Tapped:
    """A broker as its clients find it at the other end of a tapped wire."""

    server: ActiveMQ
    tap: Tap

    @property
    def url(self) -> str:
        return self.url_of(ADMIN)

    def url_of(self, user: str) -> str:
        return replace(self.server, port=self.tap.port).url(user)


@dataclass(frozen=True)
class Secure:
    """A federation whose servers speak TLS and nothing else; `broker` and `database` are the wires to them."""

    world: World
    certificates: Certificates
    postgres: Postgres
    broker: Tap
    database: Tap

    def database_url(self, role: str, password: str) -> str:
        return self.postgres.url(DATABASE, user=role, password=password)


@pytest.fixture(scope="module")
def secure(server_dir: Path, alembic: Callable[..., None]) -> Iterator[Secure]:
    folder = server_dir / "tls-at-work"
    folder.mkdir(mode=0o711)
    certificates = Certificates(folder / "tls")
    certificates.make([])
    postgres = Postgres(folder / "postgres", keep_or_choose(None), durable=False, certificates=certificates)
    passwords = {user: secrets.token_urlsafe(9) for user in USERS}
    found = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    # A node that is let in alone.
    passwords |= (node := {user_of_node("apart"): secrets.token_urlsafe(9)})
    nodes = {"apart": node[user_of_node("apart")]}
    activemq = ActiveMQ(folder / "activemq", keep_or_choose(None), passwords, found, certificates, nodes=nodes)
    with (
        running(folder, *postgres.parts(settings().cache_dir), activemq.part()),
        tapped(postgres.port) as database,
        tapped(activemq.port) as broker,
    ):
        roles = {role: secrets.token_urlsafe(9) for role in ROLES}
        postgres.ensure_roles(roles)
        postgres.ensure_database()
        distant = replace(postgres, port=database.port)
        urls = {role: distant.url(DATABASE, user=role, password=password) for role, password in roles.items()}
        alembic(urls[OWNER], "upgrade", "head")
        service = urls["federation_service"]
        given = {"owner_url": urls[OWNER], "database_url": urls["federation_app"], "service_url": service, "broker": Tapped(activemq, broker)}
        world = World(folder, **given, own_logins=False)
        yield Secure(world, certificates, distant, broker, database)
        world.close()


def test_a_node_that_is_let_in_alone_does_so_over_tls_too(secure: Secure) -> None:
    world = secure.world
    (world.workers_dir / "apart.toml").write_text('role = "developer"')
    urls = {"broker_url": world.broker.url_of(WORKER), "database_url": world.database_url, "database_service_url": world.service_url}
    config = Settings(data_dir=world.folder, **{name: SecretStr(url) for name, url in urls.items()})
    node_roles.let_in(secure.postgres.url(DATABASE), "apart", "secret", lasting=None)
    broker = world.broker.server.passwords[user_of_node("apart")]
    file = node_settings.write(
        Home(world.folder), "apart", node_settings.variables(config, "apart", database="secret", broker=broker), None, secure.certificates
    )
    assert str(secure.certificates.authority) in file.read_text().splitlines()[1]
    world.worker("apart", **dict(shlex.split(line)[0].split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#")))
    assert world.result(world.record("tests.where", {}, node="apart"))["node"] == "apart"
    [sessions] = [one.sessions for one in node_roles.everybody(secure.postgres.url(DATABASE))]
    assert sessions > 1
    assert all(beginning.startswith(WANTS_TLS) for beginning in secure.database.beginnings)


def test_a_worker_does_what_it_is_told_and_its_result_is_read_over_tls_alone(secure: Secure) -> None:
    world, word = secure.world, f"swordfish-{secrets.token_hex(8)}"
    node = world.node("sealed")
    world.worker(node)
    execution = world.record("tests.where", {"word": word}, node=node)
    told = world.result(execution)
    assert (told["node"], told["word"]) == (node, word)
    for tap, begins in ((secure.broker, HANDSHAKE), (secure.database, WANTS_TLS)):
        assert len(tap.beginnings) > 1
        assert all(beginning.startswith(begins) for beginning in tap.beginnings)
        for secret in (word, node, "tests.where", str(execution), "CONNECTED", "SELECT"):
            assert secret.encode() not in tap.heard, secret
    # The ear is not deaf.
    with socket.create_connection((LOOPBACK, secure.broker.port)) as clear:
        clear.sendall(word.encode())
        assert children.wait_until(lambda: word.encode() in secure.broker.heard, WITHIN_S)


@pytest.fixture
def door(secure: Secure) -> Iterator[str]:
    """The URL of a front door behind TLS, on these servers."""
    world, port = secure.world, keep_or_choose(None)
    environment = world.environment(FEDERATION_TLS="true", FEDERATION_MCP_PORT=str(port), FEDERATION_BROKER_URL=world.broker.url_of(DOOR))
    with (world.folder / "door.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "federation.cli.main", "serve"], env=environment, stdout=log, stderr=log)
    try:
        asked = answers_http(LOOPBACK, port, "/health", secure.certificates.client_context())
        assert children.wait_until(lambda: process.poll() is not None or asked(), WITHIN_S)
        assert process.poll() is None, world.log("door")
        yield f"https://{LOOPBACK}:{port}/mcp"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_client_asks_for_over_https_a_worker_does(secure: Secure, door: str, tmp_path: Path) -> None:
    world = secure.world
    world.worker(world.node("reading", tags=["frag"]))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "memory.txt").write_text("Profile the memory")
    with world.transactions.begin("test:setup") as session:
        token = agents.add(session, "bob", "developer")
    trusted = secure.certificates.client_context()
    async with Client(StreamableHttpTransport(door, auth=token, verify=trusted)) as bob:
        indexed = (await bob.call_tool("federation_index", {"path": str(tmp_path / "notes"), "wait_s": 120})).structured_content
        assert indexed["searchable"], world.log("door")
    other = Certificates(tmp_path / "tls")
    other.make([])
    with pytest.raises(Exception, match="certificate verify failed"):
        async with Client(StreamableHttpTransport(door, auth=token, verify=other.client_context())):
            pass


@pytest.fixture
def foreign(secure: Secure, tmp_path: Path) -> Callable[[str], str]:
    """Turns a URL into one that trusts another authority."""
    other = Certificates(tmp_path / "tls")
    other.make([])
    ours, theirs = (quote(str(one.authority), safe="") for one in (secure.certificates, other))

    def turned(url: str) -> str:
        assert ours in url
        return url.replace(ours, theirs)

    return turned


def test_a_worker_that_does_not_trust_the_broker_says_so_and_does_nothing(secure: Secure, foreign: Callable[[str], str]) -> None:
    world, node = secure.world, secure.world.node("doubting")
    worker = world.worker(node, wait=False, FEDERATION_BROKER_URL=foreign(world.broker.url_of(WORKER)))
    world.until(lambda: "its certificate was not accepted" in world.log(node), "the worker says why", within_s=WITHIN_S)
    world.stop(worker)
    assert "ready." not in world.log(node)


def test_who_does_not_trust_the_database_says_so_and_does_nothing(secure: Secure, foreign: Callable[[str], str]) -> None:
    world, node = secure.world, secure.world.node("wary")
    urls = {"FEDERATION_DATABASE_URL": foreign(world.database_url), "FEDERATION_DATABASE_SERVICE_URL": foreign(world.service_url)}
    worker = world.worker(node, wait=False, **urls)
    world.until(lambda: "certificate verify failed" in world.log(node), "the worker says why", within_s=WITHIN_S)
    assert not world.alive(node, worker.pid)
    world.stop(worker)
    serve = [sys.executable, "-m", "federation.cli.main", "serve"]
    done = subprocess.run(serve, env=world.environment(**urls), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "FEDERATION_DATABASE_URL: got" in done.stderr
    assert "certificate verify failed" in done.stderr


@pytest.fixture
def end_to_end(secure: Secure, tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL that speaks TLS itself and takes nothing else, as one elsewhere would; the wheel's is built without."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL of the system's")
    folder, port, account = secure.world.folder / "end-to-end", keep_or_choose(None), children.unprivileged_account()
    folder.mkdir()
    (folder / "password").write_text("words")
    (folder / "hba").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    for path, copy in ((secure.certificates.certificate("postgres"), "cert"), (secure.certificates.key("postgres"), "key")):
        (folder / copy).write_bytes(path.read_bytes())
        (folder / copy).chmod(0o600)
    if account:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.uid, account.gid)
    who: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    make = [found[-1], "-D", folder / "cluster", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", folder / "password", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **who)
    files = {"ssl_cert_file": folder / "cert", "ssl_key_file": folder / "key", "hba_file": folder / "hba", "unix_socket_directories": folder}
    options = {"ssl": "on", "fsync": "off", "listen_addresses": LOOPBACK, "port": port, **files}
    serve = [found[-1].with_name("postgres"), "-D", folder / "cluster", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder, **who)
    # Which only who holds the certificate's key can do: nothing stands between.
    query = secure.certificates.query("sslrootcert", sslmode="verify-full", channel_binding="require")
    url = f"postgresql://postgres:words@{LOOPBACK}:{port}/postgres?{query}"
    try:
        assert children.wait_until(lambda: process.poll() is not None or connects(url), WITHIN_S)
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_results_are_kept_in_a_postgresql_that_speaks_tls_itself(secure: Secure, end_to_end: str, foreign: Callable[[str], str]) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(end_to_end.partition("?")[0], sslmode="disable")
    create_all(end_to_end)
    broker, results = secure.world.broker.url, f"pgnotify+{end_to_end}"
    project = Path(__file__).parents[1] / "results"
    environment = secure.world.environment(TEST_BROKER_URL=broker, TEST_RESULTS_URL=results)
    with (secure.world.folder / "results.log").open("wb") as log:
        worker = forks.celery("-A", "results_app", "worker", "-c", "1", "--without-mingle", cwd=project, env=environment, stdout=log)
    apps = [Celery(broker=broker, backend=url, set_as_current=False) for url in (results, foreign(results))]
    try:
        asked = apps[0].send_task("results_app.add", (40, 2), queue="results")
        assert asked.get(timeout=WITHIN_S) == 42
        with psycopg.connect(end_to_end) as connection:
            encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
            assert connection.execute(encrypted).fetchall() == [(True,)]
        with pytest.raises(Exception, match="certificate verify failed"):
            # It may come to be trusted, so that one waits, and hears why it was in vain.
            apps[1].AsyncResult(asked.id).get(timeout=1)
    finally:
        children.stop(worker, signal.SIGTERM)
        for app in apps:
            app.backend.close()
            app.close()
