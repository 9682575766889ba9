"""Celery's remote control of a running worker, command by command."""

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import kombu
import pytest

WITHIN_S = 60
HERE = Path(__file__).parent


@pytest.fixture
def running(standing: Any, tmp_path: Path, bus: Any) -> Any:
    """A task that runs on the worker until the file `go` appears."""
    result = standing.tasks.write_delivery.delay(str(tmp_path), str(tmp_path / "go"))
    bus.wait_for(lambda: any(path.name.startswith(result.id) and path.suffix != ".part" for path in tmp_path.iterdir()), "the task runs")
    yield result
    (tmp_path / "go").touch()
    result.get(timeout=WITHIN_S, propagate=False)


def test_a_worker_tells_what_it_is_and_does(standing: Any, running: Any, bus: Any) -> None:
    name, inspect = standing.worker.name, standing.inspect
    assert inspect.ping()[name] == {"ok": "pong"}
    # The task of a former test may be told a moment longer than its result is there.
    bus.wait_for(lambda: [task["id"] for task in inspect.active()[name]] == [running.id], "nothing else is active")
    stats = inspect.stats()[name]
    assert stats["pool"]["max-concurrency"] == 2
    assert stats["broker"]["transport"] == "activemq"
    assert "sample_app.add" in inspect.registered()[name]
    assert {queue["name"] for queue in inspect.active_queues()[name]} >= {"work"}
    assert inspect.conf()[name]["task_acks_late"] is True
    assert inspect.query_task(running.id)[name][running.id][0] == "active"
    assert inspect.reserved()[name] == []


def test_a_revoked_task_does_not_run(standing: Any) -> None:
    task_id = str(uuid.uuid4())
    standing.ask("revoke", task_id)
    result = standing.tasks.add.apply_async((1, 1), task_id=task_id)
    with pytest.raises(Exception, match="revoked"):
        result.get(timeout=WITHIN_S)


def test_a_running_task_is_terminated(standing: Any, running: Any) -> None:
    standing.ask("revoke", running.id, terminate=True, signal="SIGKILL")
    with pytest.raises(Exception, match=r"terminated|revoked"):
        running.get(timeout=WITHIN_S)
    assert standing.tasks.add.delay(1, 1).get(timeout=WITHIN_S) == 2


def test_prefetch_follows_a_pool_that_grows_and_shrinks(standing: Any, bus: Any) -> None:
    def prefetch() -> int:
        return int(standing.inspect.stats()[standing.worker.name]["prefetch_count"])

    assert prefetch() == 2
    assert "ok" in standing.ask("pool_grow", 2)
    bus.wait_for(lambda: prefetch() == 4, "it grows")
    assert [standing.tasks.add.delay(number, 1).get(timeout=WITHIN_S) for number in range(4)] == [1, 2, 3, 4]
    for _ in range(2):
        # Refused while all processes are busy.
        bus.wait_for(lambda: "ok" in standing.ask("pool_shrink", 1), "one process less")
    bus.wait_for(lambda: prefetch() == 2, "it shrinks")
    assert [standing.tasks.add.delay(number, 1).get(timeout=WITHIN_S) for number in range(4)] == [1, 2, 3, 4]


def test_a_consumer_is_added_and_cancelled(standing: Any, bus: Any) -> None:
    name = f"extra.{uuid.uuid4().hex}"
    add = standing.tasks.add

    def queues() -> set[str]:
        return {queue["name"] for queue in standing.inspect.active_queues()[standing.worker.name]}

    def send() -> Any:
        return add.apply_async((1, 1), queue=kombu.Queue(name, routing_key=name))

    assert "ok" in standing.ask("add_consumer", name)
    assert name in queues()
    assert send().get(timeout=WITHIN_S) == 2
    assert "ok" in standing.ask("cancel_consumer", name)
    assert name not in queues()
    waiting = send()
    assert add.delay(1, 1).get(timeout=WITHIN_S) == 2
    assert waiting.state == "PENDING"
    assert "ok" in standing.ask("add_consumer", name)
    assert waiting.get(timeout=WITHIN_S) == 2
    assert "ok" in standing.ask("cancel_consumer", name)


def test_a_broadcast_reaches_the_worker(standing: Any) -> None:
    result = standing.tasks.add.apply_async((2, 3), queue="everywhere")
    assert result.get(timeout=WITHIN_S) == 5


def test_the_command_line_reaches_the_worker(standing: Any) -> None:
    worker, url = standing.worker, standing.app.conf.broker_url
    command = [sys.executable, "-m", "celery", "-A", "sample_app", "-b", url, "inspect", "-t", "60", "-d", worker.name, "ping"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{worker.name}: OK" in done.stdout
