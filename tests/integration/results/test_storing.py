"""What is stored, which state wins, and when it is deleted."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from celery import states
from celery.app.task import Context
from celery.exceptions import ImproperlyConfigured

from federation.results.backend import PostgresBackend

Make = Callable[..., PostgresBackend]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (states.STARTED, states.SUCCESS, states.SUCCESS),
        (states.RETRY, "PROGRESS", "PROGRESS"),
        (states.SUCCESS, states.FAILURE, states.SUCCESS),
        (states.SUCCESS, states.STARTED, states.SUCCESS),
        (states.SUCCESS, states.REVOKED, states.SUCCESS),
        (states.REVOKED, states.SUCCESS, states.REVOKED),
        (states.REVOKED, states.STARTED, states.REVOKED),
        (states.FAILURE, states.STARTED, states.FAILURE),
        (states.FAILURE, states.SUCCESS, states.SUCCESS),
        (states.FAILURE, states.FAILURE, states.FAILURE),
    ],
)
def test_an_end_is_not_undone(backend: PostgresBackend, first: str, second: str, kept: str) -> None:
    backend.store_result("id", ValueError("first") if first in states.EXCEPTION_STATES else "first", first)
    backend.store_result("id", ValueError("second") if second in states.EXCEPTION_STATES else "second", second)
    meta = backend.get_task_meta("id")
    assert meta["status"] == kept
    assert ("second" in str(meta["result"])) == (kept == second)


def test_the_first_success_stays_when_the_work_ran_twice(backend: PostgresBackend) -> None:
    backend.store_result("id", 1, states.SUCCESS)
    backend.store_result("id", 2, states.SUCCESS)
    assert backend.get_result("id") == 1


@pytest.mark.parametrize("value", [None, {"a": [1, 2.5, "x"]}, "\0 and \ud800 and ü", "x" * 5_000_000, [math.inf], {"__type__": "odd"}])
def test_any_json_value_comes_back(backend: PostgresBackend, value: Any) -> None:
    backend.store_result("id", value, states.SUCCESS)
    assert backend.get_task_meta("id", cache=False)["result"] == value


def test_a_failure_comes_back_with_its_class_and_traceback(backend: PostgresBackend) -> None:
    backend.store_result("id", KeyError("gone"), states.FAILURE, traceback="Traceback \0 \udcff")
    meta = backend.get_task_meta("id")
    assert isinstance(meta["result"], KeyError)
    assert meta["traceback"] == "Traceback \\x00 \\udcff"


def test_extended_results_tell_who_did_what(make_backend: Make) -> None:
    backend = make_backend(result_extended=True)
    request = Context(
        {"id": "id", "task": "t.add", "args": [1], "kwargs": {"b": 2}, "hostname": "taichi@a", "retries": 3}
        | {"delivery_info": {"routing_key": "taichi"}, "parent_id": "p", "group": "g"}
    )
    request.children.append(backend.app.AsyncResult("child"))
    backend.store_result("id", 3, states.SUCCESS, request=request)
    result = backend.app.AsyncResult("id")
    assert (result.name, result.args, result.kwargs, result.worker, result.retries, result.queue) == ("t.add", [1], {"b": 2}, "taichi@a", 3, "taichi")
    assert [child.id for child in result.children] == ["child"]
    assert result.date_done.tzinfo is not None
    assert backend.get_task_meta("id")["group_id"] == "g"


def test_forgetting_deletes(backend: PostgresBackend) -> None:
    result = backend.app.AsyncResult("id")
    backend.store_result("id", 1, states.SUCCESS)
    assert result.exists()
    result.forget()
    assert not result.exists()
    assert result.state == states.PENDING


def test_groups_are_saved_restored_and_deleted(backend: PostgresBackend) -> None:
    app = backend.app
    group = app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("h", [app.AsyncResult("b")])])
    group.save(backend)
    restored = app.GroupResult.restore("g", backend=backend)
    assert restored == group
    group.delete(backend)
    assert app.GroupResult.restore("g", backend=backend) is None


def test_cleanup_deletes_what_has_expired_and_nothing_else(make_backend: Make, database: Any) -> None:
    short = make_backend(result_expires=60)
    make_backend(result_expires=None).store_result("for ever", 1, states.SUCCESS)
    short.store_result("old", 1, states.SUCCESS)
    short.store_result("new", 1, states.SUCCESS)
    short.set_chord_size("old", 3)
    short.app.GroupResult("old", [short.app.AsyncResult("a")]).save(short)
    for table, key in (("celery_results", "task_id"), ("celery_chords", "group_id"), ("celery_group_results", "group_id")):
        database.execute(f"update {table} set expires_at = now() - interval '1 second' where {key} = 'old'")
    assert short.get_state("old") == states.PENDING
    assert short.restore_group("old", cache=False) is None
    short.app.tasks["celery.backend_cleanup"]()
    assert sorted(row[0] for row in database.execute("select task_id from celery_results")) == ["for ever", "new"]
    assert database.execute("select count(*) from celery_chords union all select count(*) from celery_group_results") == [(0,), (0,)]


def test_failures_may_be_kept_longer(make_backend: Make, database: Any) -> None:
    backend = make_backend(result_expires=60, result_failure_expires=3600)
    backend.store_result("s", 1, states.SUCCESS)
    backend.store_result("f", ValueError(), states.FAILURE)
    rows = database.execute("select task_id, round(extract(epoch from expires_at - updated_at)) from celery_results order by 1 desc")
    assert [(task_id, int(seconds)) for task_id, seconds in rows] == [("s", 60), ("f", 3600)]


def test_a_chord_may_be_kept_longer(make_backend: Make, database: Any) -> None:
    backend = make_backend(result_expires=60, result_chord_expires=3600)
    backend.set_chord_size("g", 3)
    backend.app.GroupResult("g", [backend.app.AsyncResult("a")]).save(backend)
    for table in ("celery_chords", "celery_group_results"):
        [(seconds,)] = database.execute(f"select extract(epoch from expires_at - now()) from {table}")
        assert 60 < seconds <= 3600


def test_an_expired_id_may_be_used_again(backend: PostgresBackend, database: Any) -> None:
    backend.store_result("id", 1, states.SUCCESS)
    database.execute("update celery_results set expires_at = now() - interval '1 second'")
    backend.store_result("id", 2, states.SUCCESS)
    assert backend.get_result("id") == 2


def test_a_result_is_one_upsert_and_one_announcement(backend: PostgresBackend, database: Any, postgres: Any) -> None:
    database.execute("do $$ begin execute format('alter database %I set log_statement = ''all''', current_database()); end $$")
    before = len(postgres.log)
    for number in range(20):
        backend.store_result(f"id-{number}", number, states.SUCCESS)
    # The last announcement is waited for by whoever uses the connection next.
    assert backend.get_state("id-0") == states.SUCCESS
    said = [
        line
        for line in postgres.log[before:].splitlines()
        if database.url.rpartition("/")[2] in line and (" execute " in line or " statement: " in line)
    ]
    assert len([line for line in said if "pg_notify" in line]) == 20
    assert len(said) == 41, said[:5]


def test_a_word_of_progress_is_there_at_once_and_an_end_waits_for_the_disk(backend: PostgresBackend) -> None:
    identity = "told"
    for state in ("PROGRESS", "PROGRESS", "SUCCESS", "PROGRESS"):
        backend.store_result(identity, {"note": state}, state)
        with backend._connections.borrow() as connection:
            # It ends with its own statement.
            assert connection.execute("show synchronous_commit").fetchone() == ("on",)
    assert backend.get_task_meta(identity)["result"] == {"note": "SUCCESS"}


def test_a_refused_announcement_is_told_and_loses_no_result(make_backend: Make, caplog: pytest.LogCaptureFixture) -> None:
    backend = make_backend(f"channel={'c' * 70}")
    for number in range(3):
        backend.store_result(f"id-{number}", number, states.SUCCESS)
    assert [backend.get_result(f"id-{number}") for number in range(3)] == [0, 1, 2]
    assert sum("channel name too long" in record.message for record in caplog.records) == 3


def test_a_connection_that_died_with_an_announcement_under_way_is_replaced(backend: PostgresBackend, database: Any) -> None:
    backend.store_result("before", 1, states.SUCCESS)
    database.execute("select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'celery-results'")
    backend.store_result("after", 2, states.SUCCESS)
    assert [backend.get_result(task_id) for task_id in ("before", "after")] == [1, 2]


def test_only_json_is_stored(make_backend: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match="json only"):
        make_backend(result_serializer="pickle")


def test_tables_in_a_schema_of_their_own(database: Any) -> None:
    from celery import Celery

    from federation.results.tables import create_all

    database.execute("create schema jobs")
    url = f"pgnotify+{database.owner_url}?schema=jobs&sslmode=disable"
    create_all(url)
    backend = PostgresBackend(Celery(set_as_current=False), url=url)
    backend.store_result("id", 1, states.SUCCESS)
    backend.set_chord_size("g", 1)
    backend.cleanup()
    assert database.execute("select result from jobs.celery_results") == [("1",)]
    backend.close()
