"""Real workers: groups, chains and chords, their failures, and what a killed worker leaves."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import states
from celery.app.task import Context
from celery.exceptions import ChordError, TaskRevokedError

from federation.local import children
from tests.integration.results.conftest import worker

SOON_S = 90


def test_a_task_is_awaited(canvas: Any) -> None:
    assert canvas.add.delay(2, 3).get(timeout=SOON_S) == 5


def test_a_failed_task_raises_at_its_caller(canvas: Any) -> None:
    result = canvas.fail.delay("no such file")
    with pytest.raises(ValueError, match="no such file"):
        result.get(timeout=SOON_S)
    assert "raise ValueError(message)" in result.traceback
    assert (result.name, result.args, result.queue) == ("results_app.fail", ["no such file"], "results")


def test_a_chain_passes_its_value_on(canvas: Any) -> None:
    assert canvas.chain(canvas.add.s(1, 2), canvas.add.s(3), canvas.add.s(4)).delay().get(timeout=SOON_S) == 10


def test_a_failure_ends_the_chain(canvas: Any) -> None:
    result = canvas.chain(canvas.fail.si("first"), canvas.add.si(1, 1)).delay()
    with pytest.raises(ValueError, match="first"):
        result.get(timeout=SOON_S)
    # Its own end is stored after that of its parent, which is all that get() waits for.
    last = canvas.app.AsyncResult(result.id)
    last.get(timeout=SOON_S, propagate=False)
    assert last.state == states.FAILURE


def test_a_group_keeps_its_order(canvas: Any) -> None:
    result = canvas.group(canvas.add.s(number, number) for number in range(20)).delay()
    assert result.get(timeout=SOON_S) == [2 * number for number in range(20)]
    assert result.successful()


def test_a_chord_gets_its_values_in_order(canvas: Any) -> None:
    result = canvas.chord([canvas.echo.s(number) for number in range(20)], canvas.echo.s()).delay()
    assert result.get(timeout=SOON_S) == list(range(20))
    finished(canvas, result)


def test_a_chord_of_one_and_a_chord_of_none(canvas: Any) -> None:
    assert canvas.chord([canvas.add.s(1, 1)], canvas.total.s()).delay().get(timeout=SOON_S) == 2
    assert canvas.chord([], canvas.total.s()).delay().get(timeout=SOON_S) == 0


def test_a_group_in_a_chain_becomes_a_chord(canvas: Any) -> None:
    work = canvas.chain(canvas.echo.s(1), canvas.group(canvas.add.s(1), canvas.add.s(2)), canvas.total.s(), canvas.add.s(10))
    assert work.delay().get(timeout=SOON_S) == 15


def test_a_nested_header_keeps_its_shape(canvas: Any) -> None:
    header = [canvas.echo.s(0), canvas.chain(canvas.echo.s(1), canvas.group(canvas.add.s(1), canvas.add.s(2)))]
    assert canvas.chord(header, canvas.echo.s()).delay().get(timeout=SOON_S) == [0, [2, 3]]


def test_a_chord_in_a_chord(canvas: Any) -> None:
    inner = canvas.chord([canvas.add.s(1, 1), canvas.add.s(2, 2)], canvas.total.s())
    assert canvas.chord([canvas.echo.s(1), inner], canvas.echo.s()).delay().get(timeout=SOON_S) == [1, 6]


def test_a_header_that_ignores_its_results_is_joined_all_the_same(canvas: Any) -> None:
    assert canvas.chord([canvas.unheard.s(number) for number in range(5)], canvas.total.s()).delay().get(timeout=SOON_S) == 10


def test_a_part_may_add_parts(canvas: Any) -> None:
    assert canvas.chord([canvas.grow.s(3), canvas.echo.s(1)], canvas.total.s()).delay().get(timeout=SOON_S) == 3 + 6 + 1


def test_a_failed_part_fails_the_body_with_its_cause(canvas: Any) -> None:
    result = canvas.chord([canvas.echo.s(1), canvas.fail.s("part"), canvas.echo.s(2)], canvas.total.s()).delay()
    error = canvas.app.AsyncResult(result.id).get(timeout=SOON_S, propagate=False)
    assert isinstance(error, ChordError)
    assert "part" in str(error)
    assert result.parent.results[1].id in str(error)
    finished(canvas, result)


@pytest.mark.parametrize("shape", ["header", "chain", "body"])
def test_a_chord_in_a_chord_that_fails_fails_the_one_around_it(canvas: Any, tmp_path: Path, shape: str) -> None:
    part = {
        "header": canvas.chord([canvas.fail.s("part"), canvas.add.s(1, 1)], canvas.total.s()),
        "chain": canvas.chain(canvas.add.s(1, 1), canvas.group(canvas.add.s(1), canvas.fail.si("part")), canvas.total.s()),
        "body": canvas.chord([canvas.add.s(1, 1)], canvas.fail.si("part")),
    }[shape]
    told = tmp_path / "told"
    result = canvas.chord([part, canvas.echo.s(2)], canvas.total.s().on_error(canvas.lament.s(str(told)))).delay()
    error = canvas.app.AsyncResult(result.id).get(timeout=SOON_S, propagate=False)
    assert isinstance(error, ChordError)
    assert "part" in str(error)
    finished(canvas, result)
    assert told.read_text().split() == [result.id, "ChordError"]


def test_the_errbacks_of_a_part_and_of_the_body_are_called(canvas: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    lament = canvas.lament.s(str(told))
    result = canvas.chord([canvas.echo.s(1), canvas.fail.s("part").on_error(lament)], canvas.total.s().on_error(lament)).delay()
    assert isinstance(canvas.app.AsyncResult(result.id).get(timeout=SOON_S, propagate=False), ChordError)
    expected = {f"{result.parent.results[1].id} ValueError", f"{result.id} ChordError"}
    assert children.wait_until(lambda: told.exists() and set(told.read_text().splitlines()) == expected, 60), told.read_text()


def test_a_chord_survives_a_killed_worker_process(canvas: Any, tmp_path: Path) -> None:
    result = canvas.chord([canvas.die_once.s(str(tmp_path / "died"), 1), canvas.echo.s(2)], canvas.total.s()).delay()
    assert result.get(timeout=60) == 3
    assert (tmp_path / "died").exists()


def test_a_part_delivered_twice_counts_once(canvas: Any, tmp_path: Path) -> None:
    """A copy that comes before the chord is complete must not complete it."""
    slow = tmp_path / "go"
    result = canvas.chord([canvas.echo.s(1), canvas.when.s(str(slow), 2)], canvas.total.s()).delay()
    first, second = result.parent.results
    first.get(timeout=SOON_S)
    backend = canvas.app.backend
    request = Context({"id": first.id, "group": result.parent.id, "group_index": 0, "chord": canvas.total.s()})
    backend.mark_as_done(first.id, 1, request=request)
    backend.mark_as_done(first.id, 1, request=request)
    assert canvas.app.AsyncResult(result.id).state == states.PENDING
    slow.touch()
    assert second.get(timeout=SOON_S) == 2
    assert result.get(timeout=SOON_S) == 3


def test_a_task_that_ends_while_the_database_is_away_is_stored_later(canvas: Any, postgres: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    result = canvas.chord([canvas.when.s(str(go), 1), canvas.when.s(str(go), 2)], canvas.total.s()).delay()
    postgres.kill()
    go.touch()
    postgres.start()
    assert result.get(timeout=60) == 3


def test_a_worker_that_postgresql_does_not_let_in_says_why_and_loses_no_work(canvas: Any, tmp_path: Path) -> None:
    database, log = canvas.database, tmp_path / "log"
    address = urlsplit(database.url)
    url = f"pgnotify+{address._replace(netloc=f'latecomer_here:later@{address.hostname}:{address.port}').geturl()}"
    with worker(log, "-Q", "late", TEST_RESULTS_URL=url):
        result = canvas.add.apply_async((2, 3), queue="late")
        assert children.wait_until(lambda: "Set result_backend to the URL" in log.read_text(), SOON_S), log.read_text()
        assert 'password authentication failed for user "latecomer_here"' in log.read_text()
        assert result.state == "PENDING"
        database.execute("create role latecomer_here login password 'later' in role federation_service")
        try:
            assert result.get(timeout=60) == 5
        finally:
            database.execute("drop role latecomer_here")


@pytest.mark.parametrize("how", ["SIGTERM", "remote control"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_told_to_end_before_it_is_let_in_hands_its_work_back(canvas: Any, tmp_path: Path, pool: str, how: str) -> None:
    log, queue, name = tmp_path / "log", uuid4().hex, f"{uuid4().hex}@here"
    with worker(log, "-Q", queue, "-P", pool, "-n", name, TEST_RESULTS_URL=of_nobody(canvas.database.url)) as process:
        results = [canvas.add.apply_async((number, 1), queue=queue) for number in range(2)]
        assert children.wait_until(lambda: "results.retrying" in log.read_text(), SOON_S), log.read_text()
        if how == "SIGTERM":
            process.terminate()
        else:
            with canvas.app.connection_for_write() as connection:
                canvas.app.control.shutdown(destination=[name], connection=connection)
        assert process.wait(SOON_S) == 0, log.read_text()
    said = log.read_text()
    assert "results.handed_back operation=_store_result error=" in said
    # Each process says so for itself.
    assert said.count("results.retrying") <= 2, said
    assert "Traceback" not in said
    with worker(tmp_path / "next", "-Q", queue):
        assert [result.get(timeout=SOON_S) for result in results] == [1, 2]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_is_told_to_end_while_the_database_is_away_hands_its_work_back(canvas: Any, postgres: Any, tmp_path: Path, pool: str) -> None:
    log, queue, go = tmp_path / "log", uuid4().hex, tmp_path / "go"
    with worker(log, "-Q", queue, "-P", pool) as process:
        result = canvas.when.apply_async((str(go), 1), queue=queue)
        assert children.wait_until(Path(f"{go}.1").exists, SOON_S), log.read_text()
        postgres.kill()
        try:
            go.touch()
            assert children.wait_until(lambda: "results.retrying" in log.read_text(), SOON_S), log.read_text()
            process.terminate()
            assert process.wait(SOON_S) == 0, log.read_text()
        finally:
            postgres.start()
    with worker(tmp_path / "next", "-Q", queue):
        assert result.get(timeout=SOON_S) == 1


def of_nobody(url: str) -> str:
    address = urlsplit(url)
    return f"pgnotify+{address._replace(netloc=f'nobody_here:none@{address.hostname}:{address.port}').geturl()}"


def test_the_body_of_a_chord_whose_parts_end_while_the_broker_is_away_is_sent_when_it_is_back(canvas: Any, activemq: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    result = canvas.chord([canvas.when.s(str(go), 1), canvas.when.s(str(go), 2)], canvas.total.s()).delay()
    assert children.wait_until(lambda: all(Path(f"{go}.{number}").exists() for number in (1, 2)), SOON_S), "both parts run"
    activemq.kill()
    try:
        go.touch()
        # Here Celery itself would have given up.
        assert children.wait_until(lambda: "results.chord_body_deferred" in canvas.log.read_text(), SOON_S), canvas.log.read_text()
    finally:
        activemq.start()
    assert canvas.app.AsyncResult(result.id).get(timeout=SOON_S) == 3


def test_a_revoked_task_raises_at_its_caller(canvas: Any) -> None:
    task_id = uuid4().hex
    # Not on a connection of the pool, which may have died with the broker in another test: Celery does not try a command again.
    with canvas.app.connection_for_write() as connection:
        assert canvas.app.control.revoke(task_id, reply=True, timeout=SOON_S, limit=1, connection=connection)
    with pytest.raises(TaskRevokedError):
        canvas.echo.apply_async((1,), task_id=task_id).get(timeout=SOON_S)


def test_children_are_told(canvas: Any) -> None:
    result = canvas.spawn.delay()
    result.get(timeout=SOON_S)
    assert [child.get(timeout=SOON_S) for child in result.children] == [2]


def test_progress_reaches_who_waits(canvas: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    heard: list[tuple[str, Any]] = []

    def hear(meta: dict[str, Any]) -> None:
        heard.append((meta["status"], meta["result"]))
        go.touch()

    assert canvas.progress.delay(str(go)).get(timeout=SOON_S, on_message=hear) == "done"
    assert heard == [("PROGRESS", {"done": 1, "of": 2}), (states.SUCCESS, "done")]


def test_who_waits_for_a_result_in_another_process_shares_nothing_with_the_sender(canvas: Any) -> None:
    task_id = canvas.echo.delay("hello").id
    assert canvas.app.AsyncResult(task_id).get(timeout=SOON_S) == "hello"


def finished(canvas: Any, result: Any) -> None:
    """The chord leaves no row behind, once its last part has returned."""
    deadline = time.monotonic() + SOON_S
    while canvas.database.execute("select 1 from celery_chords where group_id = %s", result.parent.id):
        assert time.monotonic() < deadline
        time.sleep(0.01)
