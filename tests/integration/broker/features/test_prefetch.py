"""The prefetch count follows the pool of a real worker at run time, up and down, and no task runs twice for it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where each run of a task leaves a file."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def ran(runs: Path) -> list[str]:
    """The ids of the tasks, once for each time that one ran."""
    return [path.name.split(".")[0] for path in runs.iterdir() if path.name.count(".") == 2]


def send(pool: Any, runs: Path, count: int, wait_for: str | None = None, **options: Any) -> list[str]:
    return [pool.module.hold.apply_async((str(runs), wait_for), **options).id for _ in range(count)]


def settles_at(pool: Any, in_flight: int) -> Callable[[], bool]:
    """Whether the broker has just so many messages with the worker, time and again."""
    return lambda: {pool.size().in_flight for _ in range(100)} == {in_flight}


def test_growing_and_shrinking_the_pool_moves_the_prefetch_count(project: Any, bus: Any, runs: Path) -> None:
    pool = project("pool_app")
    worker = pool.start()
    sent = send(pool, runs, 8, "first")
    bus.wait_for(settles_at(pool, 2), "two are with the worker")
    pool.app.control.pool_grow(3, destination=[worker.name], reply=True)
    bus.wait_for(lambda: len(ran(runs)) == 5, "five run")
    bus.wait_for(settles_at(pool, 5), "five are with the worker")
    (runs / "first").touch()
    bus.wait_for(lambda: settles_at(pool, 0)() and len(ran(runs)) == 8, "all ran")
    pool.app.control.pool_shrink(4, destination=[worker.name], reply=True)
    sent += send(pool, runs, 6, "second")
    # A consumer shrinks as its deliveries are settled; until then it may have what it had.
    bus.wait_for(lambda: pool.size().in_flight >= 1, "some are with the worker")
    (runs / "second").touch()
    bus.wait_for(lambda: len(ran(runs)) == 14, "all ran")
    sent += send(pool, runs, 4, "third")
    bus.wait_for(settles_at(pool, 1), "one is with the worker")
    (runs / "third").touch()
    bus.wait_for(lambda: len(ran(runs)) == 18, "all ran")
    assert sorted(ran(runs)) == sorted(sent), "a task ran twice"


def test_a_worker_that_scales_by_itself_fetches_as_it_grows(project: Any, bus: Any, runs: Path) -> None:
    pool = project("pool_app")
    pool.start("--autoscale=4,1", AUTOSCALE_KEEPALIVE="1")
    sent = []
    for number in range(3):
        sent += send(pool, runs, 12, f"go{number}")
        bus.wait_for(lambda: len(ran(runs)) % 12 == 4, "four run at once")
        (runs / f"go{number}").touch()
        expected = 12 * (number + 1)
        bus.wait_for(lambda expected=expected: len(ran(runs)) == expected and pool.size().in_flight == 0, "all ran")
    assert sorted(ran(runs)) == sorted(sent), "a task ran twice"


def test_tasks_that_wait_in_the_worker_for_their_eta_do_not_keep_others_from_it(project: Any, bus: Any, runs: Path) -> None:
    pool = project("pool_app")
    worker = pool.start()
    # Late enough that a worker under load holds them all before, and runs the others.
    later = datetime.now(UTC) + timedelta(seconds=30)
    waiting = send(pool, runs, 20, eta=later)
    inspect = pool.app.control.inspect([worker.name], timeout=60, limit=1)
    bus.wait_for(lambda: len(inspect.scheduled()[worker.name]) == 20, "the worker holds them all")
    others = send(pool, runs, 5)
    bus.wait_for(lambda: set(ran(runs)) == set(others), "others run meanwhile")
    bus.wait_for(lambda: len(ran(runs)) == 25, "all ran")
    assert sorted(ran(runs)) == sorted(waiting + others), "a task ran twice"
    more = send(pool, runs, 6, "go")
    bus.wait_for(settles_at(pool, 2), "two are with the worker again")
    (runs / "go").touch()
    bus.wait_for(lambda: len(ran(runs)) == 31, "all ran")
    assert sorted(ran(runs)) == sorted(waiting + others + more), "a task ran twice"
