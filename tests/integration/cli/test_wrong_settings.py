"""A wrong setting ends a command with one error that names it, before anything is started; `federation up` and the front door look alike."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.local import children
from federation.local.ports import free_port

# Without a network nobody can say that there is no such host.
UNKNOWN_HOST = "not known|name resolution"
# A variable, its value, the status with which a command ends, and what it says.
Case = tuple[str, str, int, str]
UP = ("up", "--detach", "--nodes", "baby")


@pytest.fixture
def taken() -> Iterator[str]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield str(listening.getsockname()[1])


def refused(done: Any, status: int) -> str:
    """Return the one error of a command that ended so."""
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("federation: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


# Which servers are refused for which reason is told in tests/integration/local/test_elsewhere.py.
@pytest.mark.parametrize(
    "case",
    [
        ("FEDERATION_BROKER_URL", "activemq://u:hunter2@nowhere.invalid:61613/", 2, UNKNOWN_HOST),
        ("FEDERATION_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:{free}/f", 69, "refused"),
        ("FEDERATION_MCP_HOST", "192.0.2.1", 2, "wants an address of this machine"),
        ("FEDERATION_MCP_HOST", "nowhere.invalid", 2, "wants an address of this machine"),
        ("FEDERATION_MCP_PORT", "{taken}", 69, "wants a free port"),
        ("FEDERATION_WORKERS_DIR", "/nowhere", 2, "/nowhere"),
        ("FEDERATION_CHARTER", "/nowhere", 2, "/nowhere"),
        ("FEDERATION_JWT_ISSUER", "https://login.example/realms/lab", 2, "FEDERATION_JWT_KEYS belong together"),
    ],
)
def test_up_refuses_before_it_starts_anything(federation: Callable[..., Any], data_dir: Path, taken: str, case: Case) -> None:
    variable, value, status, says = case
    done = federation(*UP, **{variable: value.format(free=free_port(), taken=taken)})
    told = refused(done, status)
    assert variable in told
    assert re.search(says, told)
    assert "hunter2" not in told
    assert not (data_dir / "postgres").exists()
    assert not children.working_in(data_dir / "run")


@pytest.mark.parametrize("words", [UP, ("status",), ("agent", "list")], ids=" ".join)
def test_data_directory_that_is_a_file_is_refused_by_each_command(federation: Callable[..., Any], tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    told = refused(federation(*words, FEDERATION_DATA_DIR=str(tmp_path / "file")), 2)
    assert f"FEDERATION_DATA_DIR: got '{tmp_path / 'file'}', wants a folder" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_directory_of_others_is_refused(federation: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    told = refused(federation(*UP, FEDERATION_DATA_DIR=str(tmp_path / "closed" / "data")), 2)
    assert re.search("FEDERATION_DATA_DIR: got .*, wants a folder that this user can write", told)


def test_data_directory_where_none_can_be_made_is_refused(federation: Callable[..., Any]) -> None:
    # In /proc not even root can make a folder.
    told = refused(federation(*UP, FEDERATION_DATA_DIR="/proc/federation"), 2)
    assert "FEDERATION_DATA_DIR: got '/proc/federation', wants a folder that this user can write" in told


@pytest.fixture
def served(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> dict[str, str]:
    """An environment in which the front door has its servers."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return surroundings


@pytest.mark.parametrize(
    "case",
    [
        ("FEDERATION_MCP_HOST", "192.0.2.1", 2, "FEDERATION_MCP_HOST: got '192.0.2.1', wants an address of this machine"),
        ("FEDERATION_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:{free}/f", 69, "FEDERATION_DATABASE_URL: got 'postgresql://u:•••@"),
    ],
)
def test_front_door_names_the_setting_that_is_wrong(federation: Callable[..., Any], served: dict[str, str], taken: str, case: Case) -> None:
    variable, value, status, says = case
    done = federation("serve", **{variable: value.format(free=free_port(), taken=taken)})
    assert says.format(taken=taken) in refused(done, status)


def test_agents_are_not_added_to_a_database_that_is_not_there(federation: Callable[..., Any]) -> None:
    told = refused(federation("agent", "add", "nora", "--role", "lead"), 2)
    assert "FEDERATION_DATABASE_URL is not set: start `federation up`, or name a PostgreSQL" in told
