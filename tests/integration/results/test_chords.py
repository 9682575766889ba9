"""The counter of a chord, without a worker: who sends the body, and how often."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty
from typing import Any

import psycopg
import pytest
from celery import states
from celery.app.task import Context

import federation.broker
from federation.results.backend import PostgresBackend
from federation.results.chords import header_values

assert federation.broker  # imported for its side effect: kombu then knows activemq://


@pytest.fixture
def backend(make_backend: Callable[..., PostgresBackend]) -> PostgresBackend:
    backend = make_backend(broker_url="memory://", task_default_queue="bodies")

    @backend.app.task(name="body", shared=False)
    def body(values: Any) -> None: ...

    return backend


def part(backend: PostgresBackend, number: int) -> Context:
    body = backend.app.signature("body").set(task_id="body-id")
    return Context({"id": f"part-{number}", "task": "part", "group": "g", "group_index": number, "chord": body})


def ended(backend: PostgresBackend, number: int) -> None:
    backend.mark_as_done(f"part-{number}", number, request=part(backend, number))


def bodies(backend: PostgresBackend) -> list[tuple[str, Any]]:
    """Take what was sent: the id and the values of each body."""
    sent = []
    with backend.app.connection_for_read() as connection, connection.SimpleQueue("bodies") as queue:
        while True:
            try:
                message = queue.get_nowait()
            except Empty:
                return sent
            sent.append((message.headers["id"], message.payload[0][0]))
            message.ack()


def test_the_last_part_sends_the_body_and_clears_the_counter(backend: PostgresBackend, database: Any) -> None:
    ended(backend, 1)
    backend.set_chord_size("g", 3)  # Celery tells the size late
    ended(backend, 2)
    assert bodies(backend) == []
    ended(backend, 0)
    assert bodies(backend) == [("body-id", [0, 1, 2])]
    assert database.execute("select count(*) from celery_chords") == [(0,)]
    ended(backend, 0)
    ended(backend, 1)
    assert bodies(backend) == []


def test_a_worker_killed_before_it_sent_the_body_leaves_that_to_the_next_delivery(backend: PostgresBackend) -> None:
    backend.set_chord_size("g", 2)
    ended(backend, 0)
    backend.store_result("part-1", 1, states.SUCCESS, request=part(backend, 1))
    backend._counted.last = None  # the process is gone, and with it what it knew
    ended(backend, 0)
    assert bodies(backend) == []
    ended(backend, 1)
    assert bodies(backend) == [("body-id", [0, 1])]


def test_a_part_that_was_revoked_by_command_is_counted_when_its_message_comes(backend: PostgresBackend) -> None:
    backend.set_chord_size("g", 1)
    backend.mark_as_revoked("part-0", "by hand")
    ended(backend, 0)
    assert bodies(backend) == []
    assert backend.get_state("part-0") == states.REVOKED
    assert "by hand" in str(backend.get_result("body-id"))


def test_a_part_without_a_stored_result_is_counted(backend: PostgresBackend) -> None:
    backend.set_chord_size("g", 2)
    ended(backend, 1)
    backend.mark_as_done("part-0", 0, request=part(backend, 0), store_result=False)
    assert bodies(backend) == [("body-id", [0, 1])]


def test_parts_that_end_together_send_one_body(backend: PostgresBackend) -> None:
    backend.set_chord_size("g", 100)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ended(backend, number), [*range(100), *range(50)]))
    assert bodies(backend) == [("body-id", list(range(100)))]


def test_a_part_that_was_forgotten_fails_the_body(backend: PostgresBackend) -> None:
    backend.set_chord_size("g", 2)
    ended(backend, 0)
    backend.forget("part-0")
    ended(backend, 1)
    assert bodies(backend) == []
    assert "1 of 2 parts have no result any more" in str(backend.get_result("body-id"))


def test_a_header_whose_results_are_gone_fails_the_body(backend: PostgresBackend) -> None:
    app = backend.app
    nested = app.GroupResult("n", [app.AsyncResult("part-0")])
    backend.apply_chord(("g", [nested, app.AsyncResult("part-1")]), None)
    backend.set_chord_size("g", 2)
    ended(backend, 0)
    backend.forget("part-0")
    ended(backend, 1)
    assert "part-0 has no result any more" in str(backend.get_result("body-id"))


def test_a_body_that_no_broker_takes_has_failed_with_the_reason(make_backend: Callable[..., PostgresBackend]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    at_once = {"broker_transport_options": {"max_retries": 0}}
    backend = make_backend(broker_url=f"activemq://127.0.0.1:{port}/", result_backend_max_retries=2, **at_once)

    @backend.app.task(name="body", shared=False)
    def body(values: Any) -> None: ...

    backend.set_chord_size("g", 1)
    ended(backend, 0)
    assert backend.get_state("body-id") == states.FAILURE
    assert str(port) in str(backend.get_result("body-id"))


def test_a_header_is_read_again_when_its_connection_is_lost(backend: PostgresBackend, database: Any) -> None:
    app = backend.app
    nested = app.GroupResult("n", [app.AsyncResult("part-0")])
    backend.apply_chord(("g", [nested, app.AsyncResult("part-1")]), None)
    ended(backend, 0)
    ended(backend, 1)
    reading = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database.owner_url) as owner:
        owner.execute("lock table celery_results in access exclusive mode")
        values = pool.submit(header_values, backend, "g", 2)
        while not (found := database.execute(reading)):
            assert not values.done()
        database.execute("select pg_terminate_backend(%s)", found[0][0])
        owner.rollback()
        assert values.result(30) == [[0], 1]
