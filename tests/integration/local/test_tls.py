"""The embedded PostgreSQL and ActiveMQ, and the front door, with certificates of `federation tls init`: TLS serves, and nothing else does."""

import http.client
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kombu
import psycopg
import pytest
from pydantic import SecretStr

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import BrokerError, TlsFailed
from federation.cli.fleet import answers_http
from federation.errors import DatabaseUnavailable
from federation.local import children, jars
from federation.local.activemq import OBSERVER, USERS, ActiveMQ
from federation.local.certificates import Certificates
from federation.local.elsewhere import check_database
from federation.local.parts import Part, spawn
from federation.local.ports import LOOPBACK, keep_or_choose
from federation.local.postgres import OWNER, ROLES, Postgres
from federation.settings import Settings, settings


@pytest.fixture(scope="module")
def folder(server_dir: Path) -> Path:
    # Signs that mean something in URLs and in XML.
    made = server_dir / "tls & more"
    made.mkdir()
    made.chmod(0o711)
    return made


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    command = [sys.executable, "-m", "federation.cli.main", "tls", "init", "--host", "fed.example"]
    environment = {**os.environ, "FEDERATION_DATA_DIR": str(folder / "data")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fed.example" in done.stdout
    return Certificates(folder / "data" / "tls")


def running(logs: Path, *all_parts: Part) -> Iterator[None]:
    """Run parts that may answer only together."""
    processes = []
    for part in all_parts:
        part.prepare()
        processes.append(spawn(part, logs / f"{part.name}.log"))
    assert children.wait_until(lambda: all(part.is_ready() for part in all_parts), 120), [log.read_text() for log in logs.glob("*.log")]
    yield
    for part, process in zip(all_parts, processes, strict=True):
        children.stop(process, part.stop_signal, grace_s=part.grace_s)


@pytest.fixture(scope="module")
def secure_database(folder: Path, certificates: Certificates) -> Iterator[Postgres]:
    server = Postgres(folder / "postgres", keep_or_choose(None), durable=False, certificates=certificates)
    for _ in running(folder, *server.parts(settings().cache_dir)):
        yield server


def test_postgresql_speaks_tls_and_refuses_the_clear(secure_database: Postgres, tmp_path: Path) -> None:
    with psycopg.connect(secure_database.url()) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("show listen_addresses").fetchone() == ("",)
    for mode in ("disable", "allow"):
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            psycopg.connect(secure_database.url(), sslmode=mode)
    other = Certificates(tmp_path / "tls")
    other.make([])
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(secure_database.url(), sslrootcert=str(other.authority))
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(secure_database.url(), host="other.example", hostaddr=LOOPBACK)


def test_postgresql_asks_for_a_password_behind_tls_too(secure_database: Postgres) -> None:
    secure_database.ensure_roles(dict.fromkeys(ROLES, "words"))
    with psycopg.connect(secure_database.url(user=OWNER, password="words")) as connection:
        # As PostgreSQL sees it, all come over its socket.
        assert connection.execute("select inet_client_addr()").fetchone() == (None,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(secure_database.url(user=OWNER, password="other"))
    assert secure_database.cluster.stat().st_mode & 0o077 == 0
    assert (secure_database.cluster / f".s.PGSQL.{secure_database.port}").is_socket()


def test_notifications_copies_and_cancelling_pass_through_tls(secure_database: Postgres) -> None:
    with psycopg.connect(secure_database.url(), autocommit=True) as listening, psycopg.connect(secure_database.url(), autocommit=True) as other:
        listening.execute("listen news")
        other.execute("notify news, 'it is done'")
        assert [news.payload for news in listening.notifies(timeout=60, stop_after=1)] == ["it is done"]
        other.execute("create temporary table lines (line text)")
        lines = [str(number) * 500 for number in range(10_000)]
        with other.cursor().copy("copy lines from stdin") as copy:
            for line in lines:
                copy.write_row([line])
        with other.cursor().copy("copy lines to stdout") as copy:
            assert [row[0] for row in copy.rows()] == lines
        with ThreadPoolExecutor(1) as pool:
            asleep = pool.submit(other.execute, "select pg_sleep(600)")
            active = "select 1 from pg_stat_activity where pid = %s and state = 'active'"
            assert children.wait_until(lambda: listening.execute(active, [other.info.backend_pid]).fetchone() is not None, 60)
            other.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                asleep.result(60)


def test_a_postgresql_that_is_away_behind_tls_may_come_back(certificates: Certificates, tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", keep_or_choose(None), certificates=certificates)
    server.root.mkdir()
    _, alone = server.parts(settings().cache_dir)
    alone.prepare()
    process = spawn(alone, tmp_path / "alone.log")
    config = Settings(data_dir=tmp_path / "data", database_url=SecretStr(server.url(password="words")))

    def listens() -> bool:
        with socket.socket() as asking:
            return asking.connect_ex((LOOPBACK, server.port)) == 0

    try:
        assert children.wait_until(listens, 60), (tmp_path / "alone.log").read_text()
        for _ in range(20):
            with pytest.raises(DatabaseUnavailable, match=r"server closed the connection|unexpected eof"):
                check_database(config)
    finally:
        children.stop(process)


@pytest.fixture(scope="module")
def secure_broker(folder: Path, certificates: Certificates) -> Iterator[ActiveMQ]:
    passwords = {user: secrets.token_urlsafe(9) for user in USERS}
    found = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    server = ActiveMQ(folder / "activemq", keep_or_choose(None), passwords, found, certificates)
    for _ in running(folder, server.part()):
        yield server


def test_activemq_speaks_tls_and_refuses_the_clear(secure_broker: ActiveMQ, tmp_path: Path) -> None:
    with kombu.Connection(secure_broker.url(OBSERVER), connect_timeout=60) as connection:
        connection.connect()
        assert connection.connected
    clear = secure_broker.url(OBSERVER).partition("?")[0].replace("activemqs:", "activemq:")
    with pytest.raises(BrokerError):
        kombu.Connection(clear, connect_timeout=60).transport.establish_connection()
    other = Certificates(tmp_path / "tls")
    other.make([])
    foreign = f"{secure_broker.url(OBSERVER).partition('?')[0]}?{other.query('ssl_ca_certs')}"
    with pytest.raises(TlsFailed, match="certificate"):
        kombu.Connection(foreign, connect_timeout=60).transport.establish_connection()


def test_keys_and_their_passwords_are_for_their_owner_alone(secure_broker: ActiveMQ) -> None:
    for secret in (secure_broker.root / "activemq.xml", secure_broker.root / "broker.p12"):
        assert secret.stat().st_mode & 0o077 == 0, secret


@pytest.fixture
def door(postgres: Any, database: str, certificates: Certificates, folder: Path) -> Iterator[int]:
    port = keep_or_choose(None)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")} | {
        "FEDERATION_DATA_DIR": str(certificates.folder.parent),
        "FEDERATION_TLS": "true",
        "FEDERATION_MCP_PORT": str(port),
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": "activemq://nobody:secret@127.0.0.1:9/",
    }
    with (folder / "door.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "federation.cli.main", "serve"], env=environment, stdout=log, stderr=log)
    asked = answers_http(LOOPBACK, port, "/health", certificates.client_context())
    assert children.wait_until(lambda: process.poll() is not None or asked(), 120)
    assert process.poll() is None, (folder / "door.log").read_text()
    yield port
    process.terminate()
    process.wait(60)


def test_the_front_door_speaks_tls_and_refuses_the_clear(door: int, certificates: Certificates) -> None:
    there = http.client.HTTPSConnection(LOOPBACK, door, timeout=60, context=certificates.client_context())
    there.request("GET", "/health")
    assert there.getresponse().status == 200
    there.close()
    with socket.create_connection((LOOPBACK, door), timeout=60) as clear:
        clear.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in clear.recv(4096)
