"""The files that compose/ hands to PostgreSQL and ActiveMQ, tried on a real PostgreSQL and a real ActiveMQ."""

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from federation.local import children, jars, java, parts
from federation.local.ports import LOOPBACK, free_port
from federation.local.postgres import ROLES, Postgres, wheel
from federation.settings import settings

FOLDER = Path(__file__).parents[3] / "compose"


@pytest.fixture
def passwords(tmp_path: Path) -> dict[str, str]:
    """What make-secrets.sh makes."""
    subprocess.run([FOLDER / "make-secrets.sh", tmp_path], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())


@pytest.fixture
def broker(tmp_path: Path, passwords: dict[str, str]) -> Iterator[int]:
    """The port of an ActiveMQ that runs on the container's configuration, with data and port of its own."""
    port = free_port()
    text = (FOLDER / "activemq.xml").read_text()
    (tmp_path / "activemq.xml").write_text(text.replace("/var/lib/activemq", str(tmp_path / "data")).replace("0.0.0.0:61613", f"{LOOPBACK}:{port}"))
    distribution = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    with (tmp_path / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(java.find(), f"-Dactivemq.home={tmp_path}", f"-Dactivemq.base={tmp_path}", "-cp", ":".join(map(str, distribution.class_path))),
                *("org.apache.activemq.console.command.ShellCommand", "start", f"xbean:file:{tmp_path / 'activemq.xml'}"),
            ],
            env=os.environ | passwords,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield port
    children.stop(process, signal.SIGTERM)


def healthy(port: int, password: str) -> bool:
    surroundings = os.environ | {"BROKER_STOMP_PORT": str(port), "BROKER_OBSERVER_PASSWORD": password}
    return subprocess.run(["bash", FOLDER / "broker-health.sh"], env=surroundings, capture_output=True, check=False).returncode == 0


def test_broker_takes_the_password_of_the_environment_and_no_other(broker: int, passwords: dict[str, str], tmp_path: Path) -> None:
    came_up = children.wait_until(lambda: healthy(broker, passwords["BROKER_OBSERVER_PASSWORD"]), 120, every_s=0.3)
    assert came_up, (tmp_path / "broker.log").read_text()[-3000:]
    assert not healthy(broker, secrets.token_hex(24))
    assert not healthy(broker, "${BROKER_OBSERVER_PASSWORD}")


def make_roles(server: Postgres, passwords: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    psql = wheel() / "pginstall18" / "bin" / "psql"
    command = [psql, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--file", FOLDER / "roles.sql", server.url("federation")]
    return subprocess.run(command, env=os.environ | passwords, check=False, capture_output=True, text=True)


@pytest.fixture
def database(server_dir: Path, passwords: dict[str, str]) -> Iterator[Postgres]:
    """A server of this test's own, because roles belong to the server, with roles.sql run as PostgreSQL's image runs it."""
    folder = server_dir / f"compose-{secrets.token_hex(4)}"
    server = Postgres(folder, free_port(), durable=False)
    process = parts.run(server.part(), folder.with_suffix(".log"))
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("create database federation")
    assert make_roles(server, passwords).returncode == 0
    yield server
    children.stop(process, signal.SIGINT)


def test_roles_own_migrate_write_and_read_as_they_should(database: Postgres, passwords: dict[str, str], alembic: Callable[..., None]) -> None:
    def url(role: str) -> str:
        return database.url("federation", user=role, password=passwords[f"{role.removeprefix('federation_').upper()}_PASSWORD"])

    alembic(url("federation_owner"), "upgrade", "head")
    with psycopg.connect(database.url("federation")) as connection:
        rights = connection.execute(
            "select rolname from pg_roles where rolname = any(%s) and not (rolsuper or rolcreatedb or rolcreaterole or rolbypassrls)", [list(ROLES)]
        )
        assert {name for (name,) in rights} == set(ROLES)
    with psycopg.connect(url("federation_app")) as connection:
        connection.execute("select set_config('federation.actor', 'ada', true)")
        connection.execute("insert into conversations (id, created_by) values ('project-123', 'ada')")
    with psycopg.connect(url("federation_auditor")) as connection:
        assert connection.execute("select id from conversations").fetchall() == [("project-123",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into conversations (id, created_by) values ('other', 'eve')")


def test_passwords_do_not_reach_the_log_when_the_roles_are_there_already(database: Postgres, passwords: dict[str, str]) -> None:
    assert "already exists" in make_roles(database, passwords).stderr
    told = database.root.with_suffix(".log").read_text()
    assert "already exists" in told
    assert not [name for name, password in passwords.items() if password in told]


def test_roles_are_not_made_without_passwords(server_dir: Path) -> None:
    server = Postgres(server_dir / "bare", free_port(), durable=False)
    process = parts.run(server.part(), server_dir / "bare.log")
    try:
        psql = wheel() / "pginstall18" / "bin" / "psql"
        done = subprocess.run([psql, "--no-psqlrc", "--file", FOLDER / "roles.sql", server.url()], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("select count(*) from pg_roles where rolname like 'federation%'").fetchone() == (0,)
    finally:
        children.stop(process, signal.SIGINT)
