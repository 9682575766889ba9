"""A port that somebody else has is not exchanged in silence, and one that was named by a setting not at all."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.cli.fleet import prepared
from federation.errors import LocalServiceError
from federation.local import checks
from federation.local.checks import Verdict
from federation.local.home import Home, read_json, write_json
from federation.local.port_holders import holder
from federation.local.ports import LOOPBACK, free_port
from federation.settings import load

US = f"(pid {os.getpid()})"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield int(listening.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A data directory whose settings are those of this process; nobody has named a port."""
    for name in [name for name in os.environ if name.startswith("FEDERATION_") and name != "FEDERATION_CACHE_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path / "data"))
    made = Home(tmp_path / "data")
    made.create()
    return made


def remember(home: Home, name: str, port: int) -> None:
    """Let the federation have used this port last."""
    write_json(home.secrets_file, read_json(home.secrets_file) | {name: port})
    if name in OTHERS:
        write_json(home.settings_file, read_json(home.settings_file) | {name: port})


OTHERS = {"mcp_port": "the front door", "stomp_port": "the STOMP door", "flower_port": "Flower"}
SERVICES = {"postgres_port": "PostgreSQL", "activemq_port": "ActiveMQ", **OTHERS}


@pytest.mark.parametrize("name", SERVICES)
def test_remembered_port_that_is_taken_is_told_with_who_has_it_and_what_is_used_instead(home: Home, taken: int, name: str) -> None:
    for service in OTHERS:
        remember(home, service, free_port())
    remember(home, name, taken)
    [told] = prepared(home, ["baby"]).notices
    instead = read_json(home.secrets_file)[name]
    assert instead != taken
    assert told.startswith(f"Port {taken} of {SERVICES[name]} is taken by ")
    assert told.endswith(f" {US}; from now on it is {instead}.")
    assert prepared(home, ["baby"]).notices == [], "the next start finds it as it left it"


def test_port_that_was_named_and_is_taken_is_refused_and_nothing_is_written(home: Home, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(home, ["baby"])
    before = home.settings_file.read_text(), home.secrets_file.read_text()
    monkeypatch.setenv("FEDERATION_FLOWER_PORT", str(taken))
    with pytest.raises(LocalServiceError) as refusal:
        prepared(home, ["baby"])
    assert str(refusal.value).startswith(f"FEDERATION_FLOWER_PORT: got {taken}, which is taken by ")
    assert str(refusal.value).endswith(f" {US}; wants a free port, or nothing to have one chosen")
    assert (home.settings_file.read_text(), home.secrets_file.read_text()) == before


@pytest.mark.parametrize("first", [True, False], ids=["before the first start", "after it"])
def test_port_that_a_person_wrote_into_the_file_is_refused_like_one_in_the_environment(home: Home, taken: int, first: bool) -> None:
    if not first:
        prepared(home, ["baby"])
    written = read_json(home.settings_file) | {"mcp_port": taken}
    write_json(home.settings_file, written)
    with pytest.raises(LocalServiceError) as refusal:
        prepared(home, ["baby"])
    assert str(refusal.value).startswith(f"FEDERATION_MCP_PORT: got {taken} in {home.settings_file}, which is taken by ")
    assert read_json(home.settings_file) == written


def test_what_is_free_is_kept_and_nothing_is_said(home: Home) -> None:
    ports = {name: free_port() for name in SERVICES}
    for name, port in ports.items():
        remember(home, name, port)
    assert prepared(home, ["baby"]).notices == []
    assert {name: read_json(home.secrets_file)[name] for name in SERVICES} == ports


def test_doctor_says_who_has_the_port(home: Home, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATION_MCP_PORT", str(taken))
    [told] = [finding for finding in checks.ports(load()) if finding.verdict is Verdict.WARN and "mcp_port" in finding.saw]
    assert told.saw.startswith(f"mcp_port {taken} is taken by ")
    assert told.saw.endswith(US)


def test_port_that_is_promised_to_another_federation_is_that_process_already() -> None:
    port = free_port()
    assert holder(port) is None
    promises = f"from federation.local import ports; print(ports.keep_or_choose({port}), flush=True); input()"
    command = [sys.executable, "-c", promises]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == port
        told = holder(port)
        other.communicate("\n")
    assert told is not None
    assert told.endswith(f"(pid {other.pid})")
    assert holder(port) is None
