"""Transactions tell what a caller may do next: again at once, later, or after a look."""

import threading
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from federation.errors import DatabaseUnavailable, TransientError
from federation.store import outbox
from federation.store.fixed_ids import fixed_id
from federation.store.models.executions import Execution
from federation.transaction import Transactions, _refuse_ended, connect, reading


def test_two_who_record_the_same_execution_at_once_record_one(transactions, publisher) -> None:
    identity = fixed_id("summary", "project-123", 1, 12)
    both = threading.Barrier(2)

    def record(who: str) -> None:
        with transactions.begin(who) as session:
            both.wait(60)
            outbox.record(session, "federation.tasks.summaries.summarise", {}, execution_id=identity)

    threads = [threading.Thread(target=record, args=(who,)) for who in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert publisher.published == [identity]
    with transactions.begin("test:hand") as session:
        assert session.get_one(Execution, identity).actor in {"ada", "bob"}


def test_no_free_connection_is_an_error_that_passes(postgres, database: str, publisher) -> None:
    engine = connect(postgres.as_role("federation_app", database), most=2)
    engine.pool._timeout = 0.1
    opened = Transactions(engine, publisher)
    with opened.begin("ada"), opened.begin("ada"), pytest.raises(DatabaseUnavailable, match="free"), opened.begin("ada"):
        pytest.fail("a third connection of two")
    engine.dispose()


def test_connections_that_were_wanted_at_once_are_kept(postgres, database: str, publisher) -> None:
    engine = connect(postgres.as_role("federation_app", database), most=8)
    opened = Transactions(engine, publisher)
    used = []
    for _ in range(2):
        with ExitStack() as stack:
            used.append({stack.enter_context(opened.begin("ada")).scalar(text("SELECT pg_backend_pid()")) for _ in range(8)})
    assert len(used[0]) == 8
    assert used[0] == used[1]
    engine.dispose()


@pytest.mark.parametrize("with_a_sign", [True, False])
def test_a_connection_that_has_ended_is_replaced_unnoticed(postgres, database: str, publisher, with_a_sign: bool) -> None:
    engine = connect(postgres.as_role("federation_app", database), most=2)
    if not with_a_sign:
        event.remove(engine, "checkout", _refuse_ended)
    opened = Transactions(engine, publisher)
    pids = []
    for _ in range(2):
        with opened.begin("ada") as session:
            pids.append(session.scalar(text("SELECT pg_backend_pid()")))
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", [pids[-1]])
    assert pids[0] != pids[1]
    engine.dispose()


def test_connections_that_end_as_soon_as_they_are_made_are_a_server_that_does_not_answer(postgres, database: str, publisher) -> None:
    engine = connect(postgres.as_role("federation_app", database), most=2)

    def end(connection: psycopg.Connection, *_: object) -> None:
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", [connection.info.backend_pid])

    event.listen(engine, "connect", end)
    with pytest.raises(DatabaseUnavailable, match="does not answer"), Transactions(engine, publisher).begin("ada"):
        pytest.fail("a transaction over a connection that has ended")
    with pytest.raises(DatabaseUnavailable, match="does not answer"), reading(engine):
        pytest.fail("a session over a connection that has ended")
    engine.dispose()


def test_what_the_url_says_of_time_outs_wins_over_ours(postgres, database: str, monkeypatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    told = []
    for query in ("", "?connect_timeout=77&keepalives_count=9"):
        engine = connect(postgres.as_role("federation_app", database) + query)
        with engine.connect() as connection:
            libpq = connection.connection.driver_connection.info.get_parameters()
            told.append((libpq["connect_timeout"], libpq["keepalives_count"]))
        engine.dispose()
    assert told == [("5", "3"), ("77", "9")]


def test_a_deadlock_is_an_error_that_passes(transactions) -> None:
    with transactions.begin("test:hand") as session:
        session.execute(text("insert into streams values ('one', 1), ('two', 1)"))
    both, raised = threading.Barrier(2), []

    def cross(first: str, second: str) -> None:
        try:
            with transactions.begin("test:hand") as session:
                session.execute(text("update streams set position = 2 where name = :name"), {"name": first})
                both.wait(60)
                session.execute(text("update streams set position = 2 where name = :name"), {"name": second})
        except TransientError as error:
            raised.append(error)

    threads = [threading.Thread(target=cross, args=pair) for pair in (("one", "two"), ("two", "one"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert [type(error) for error in raised] == [TransientError]


def test_a_broken_rule_of_the_database_is_not_hidden(transactions) -> None:
    with pytest.raises(IntegrityError), transactions.begin("ada") as session:
        session.execute(text("insert into conversations (id, created_by) values ('x', 'ada'), ('x', 'ada')"))
