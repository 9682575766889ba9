"""Ten priorities and an expiry for each message, from Celery's options to the order in which a worker runs them."""

import random
import time
from pathlib import Path
from typing import Any

import pytest


def began(runs: Path) -> list[str]:
    """Ids of the tasks in the order in which they began."""
    files = [path.name.split(".") for path in runs.iterdir() if path.name.count(".") == 2]
    return [name[0] for name in sorted(files, key=lambda name: int(name[2]))]


@pytest.mark.parametrize("max_priority", [None, 10])
def test_a_worker_runs_the_urgent_first_and_what_has_no_priority_last(project: Any, bus: Any, tmp_path: Path, max_priority: int | None) -> None:
    pool = project("pool_app")
    # RabbitMQ needs it; here it changes nothing.
    pool.app.conf.task_queue_max_priority = max_priority
    pool.start(concurrency=1)
    hold = pool.module.hold
    first = hold.apply_async((str(tmp_path), "go"))
    bus.wait_for(lambda: began(tmp_path) == [first.id], "the worker is busy")
    priorities = [None, *range(10), None, *range(10)]
    random.shuffle(priorities)
    sent = [(priority or 0, hold.apply_async((str(tmp_path),), **({} if priority is None else {"priority": priority})).id) for priority in priorities]
    (tmp_path / "go").touch()
    bus.wait_for(lambda: len(began(tmp_path)) == len(sent) + 1, "all ran")
    # Of the same priority, the older goes first.
    expected = [id_ for _, id_ in sorted(sent, key=lambda one: -one[0])]
    assert began(tmp_path)[1:] == expected


def test_the_apps_default_priority_counts(project: Any, bus: Any) -> None:
    urgent = project("urgent")
    urgent.app.conf.task_default_priority = 6
    urgent.module.answer.apply_async(("default",))
    urgent.module.answer.apply_async(("high",), priority=7)
    inbox = bus.listen(bus.connect(), urgent.app.amqp.queues[urgent.queue], accept=["json"], no_ack=True)
    inbox.wait(2)
    assert [(message.decode()[0], message.delivery_info["priority"]) for message in inbox.messages] == [(["high"], 7), (["default"], 6)]


def test_an_expired_task_does_not_run_and_fills_no_queue(project: Any, bus: Any) -> None:
    urgent = project("urgent")
    late = urgent.module.answer.apply_async(("late",), expires=1)
    fine = urgent.module.answer.apply_async(("fine",), expires=600)
    sent = time.monotonic()
    bus.wait_for(lambda: time.monotonic() - sent > 1.5, "the first expires")
    worker = urgent.start()
    assert fine.get(timeout=60) == "fine"
    assert urgent.module.answer.delay("after").get(timeout=60) == "after"
    assert late.id not in worker.log
    bus.wait_for(lambda: (urgent.size().waiting, urgent.size().in_flight) == (0, 0), "nothing is left")
    assert urgent.size(f"DLQ.{urgent.queue}") is None
