"""The embedded servers answer, keep their data through a kill, and let in only who has a password."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.errors import LocalServiceError
from federation.local import children, jars, parts
from federation.local.activemq import USERS, ActiveMQ, archive_classes, connects
from federation.local.ports import free_port
from federation.settings import settings


def test_database_is_fresh_and_dropped_after(postgres: Any) -> None:
    with postgres.database() as url, psycopg.connect(url) as connection:
        connection.execute("create table t (n int)")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_rows_survive_a_killed_server(postgres: Any) -> None:
    with postgres.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("create table t (n int)")
            connection.execute("insert into t values (7)")
        postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        postgres.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("select n from t").fetchall() == [(7,)]


def test_a_wrong_password_is_refused_by_postgres(postgres: Any) -> None:
    url = postgres.owner_url.replace("postgres:", "postgres:wrong", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_roles_are_no_superusers(postgres: Any) -> None:
    with psycopg.connect(postgres.owner_url) as connection:
        rows = connection.execute("select rolname from pg_roles where rolname like 'federation_%' and not rolsuper and not rolbypassrls").fetchall()
    assert {name for (name,) in rows} == {"federation_owner", "federation_app", "federation_service", "federation_auditor"}


def test_activemq_lets_in_only_who_has_the_password(activemq: Any) -> None:
    assert connects(activemq.host, activemq.port, activemq.user, activemq.password)
    assert not connects(activemq.host, activemq.port, activemq.user, "wrong")


def test_activemq_comes_back_after_a_kill(activemq: Any) -> None:
    activemq.kill()
    with pytest.raises(OSError, match="refused"):
        connects(activemq.host, activemq.port, activemq.user, activemq.password)
    activemq.start()
    assert connects(activemq.host, activemq.port, activemq.user, activemq.password)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> jars.Distribution:
    """The jars, and an archive of their classes that was just made."""
    found = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    kept = replace(found, archive=tmp_path_factory.mktemp("cache") / "classes.jsa")
    archive_classes(kept)
    return kept


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_activemq_starts_from_an_archive_of_its_classes_and_without_one_that_is_none(
    archived: jars.Distribution, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        archived = replace(archived, archive=tmp_path / "other.jsa")
        archived.archive.write_bytes(content)
    broker = ActiveMQ(tmp_path / "activemq", free_port(), dict.fromkeys(USERS, "secret"), archived)
    process = parts.run(broker.part(), tmp_path / "log")
    try:
        assert broker.answers()
        assert (str(archived.archive) in Path(f"/proc/{process.pid}/maps").read_text()) is (content is None)
    finally:
        children.stop(process, grace_s=60)


def test_archive_that_cannot_be_written_is_told_and_nothing_stays(archived: jars.Distribution, tmp_path: Path) -> None:
    with pytest.raises(LocalServiceError, match=r"wrote no archive to .*nowhere"):
        archive_classes(replace(archived, archive=tmp_path / "nowhere" / "classes.jsa"))
    assert list(tmp_path.iterdir()) == []


def test_passwords_never_reach_the_log(postgres: Any) -> None:
    secret = "correct-horse-battery"
    with psycopg.connect(postgres.owner_url, autocommit=True) as connection:
        connection.execute("alter role postgres set log_statement = 'all'")
    try:
        postgres.prepare()
        with pytest.raises(psycopg.errors.ReservedName):
            postgres.ensure_roles({"pg_federation": secret})
    finally:
        with psycopg.connect(postgres.owner_url, autocommit=True) as connection:
            connection.execute("alter role postgres reset log_statement")
    told = postgres.log
    assert 'alter role "federation_app" login' in told
    assert 'STATEMENT:  create role "pg_federation" login' in told
    assert not [password for password in (secret, *postgres.role_passwords.values()) if password in told]
