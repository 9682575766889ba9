"""The embedded servers answer, keep their data through a kill, and let in only who has a password."""

from typing import Any

import psycopg
import pytest

from federation.local.activemq import connects


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
