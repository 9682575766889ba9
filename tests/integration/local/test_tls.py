"""The embedded ActiveMQ, and the front door, with certificates of `federation tls init`: TLS serves, and nothing else does."""

import http.client
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import BrokerError, TlsFailed
from federation.cli.fleet import answers_http
from federation.local import children, jars, parts
from federation.local.activemq import OBSERVER, USERS, ActiveMQ
from federation.local.certificates import Certificates
from federation.local.ports import LOOPBACK, keep_or_choose
from federation.settings import settings


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


def running(part: parts.Part, log: Path) -> Iterator[None]:
    process = parts.run(part, log)
    yield
    children.stop(process, part.stop_signal, grace_s=part.grace_s)


@pytest.fixture(scope="module")
def secure_broker(folder: Path, certificates: Certificates) -> Iterator[ActiveMQ]:
    passwords = {user: secrets.token_urlsafe(9) for user in USERS}
    found = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    server = ActiveMQ(folder / "activemq", keep_or_choose(None), passwords, found, certificates)
    for _ in running(server.part(), folder / "activemq.log"):
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
