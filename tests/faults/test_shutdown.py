"""Workers that are asked to end: what runs is finished by them alone, what waits goes to a peer, and what is cut off comes back."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from billiard.pool import GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL, GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT

from tests.faults.diary import Diary, some, wait_for
from tests.faults.fleet import Fleet, Worker
from tests.faults.publishing import Client


def tell_by_signal(worker: Worker, client: Client) -> None:
    worker.signal(signal.SIGTERM)


def tell_by_remote_control(worker: Worker, client: Client) -> None:
    client.app.control.shutdown(destination=[worker.name])


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("tell", [tell_by_signal, tell_by_remote_control])
def test_a_warm_shutdown_gives_what_waits_to_a_peer_at_once_and_finishes_what_runs(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, prefix: str, size_of: Callable[[str], Any], tell: Callable[..., None], pool: str
) -> None:
    gate = tmp_path / "gate"
    leaving = fleet.start(pool=pool, slots=1, worker_prefetch_multiplier=4)
    running = client.send("hold", str(gate))
    wait_for(lambda: running in diary.ids("start"), "the long task runs")
    waiting = [client.send("work") for _ in range(3)]
    # In the worker's memory, not only on the way to it.
    wait_for(lambda: all(task_id in leaving.log for task_id in waiting), lambda: f"the worker has all\n{leaving.log}")
    peer = fleet.start(slots=1)
    tell(leaving, client)
    wait_for(lambda: set(waiting) <= diary.ids("end") or len(diary.starts(running)) > 1, lambda: f"a peer runs what waits: {diary.lines}")
    assert len(diary.starts(running)) == 1, "a peer runs what is still running"
    assert all(peer.wrote(line) for line in diary.lines if line.task_id in waiting)
    assert running not in diary.ids("end")
    # More work, so that a running task given back by mistake would reach the peer.
    diary.wait_until_all_ended([client.send("work") for _ in range(10)])
    gate.touch()
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    wait_for(lambda: (size := size_of(f"/queue/{prefix}work")).waiting + size.in_flight == 0, "all is acknowledged")
    assert [leaving.wrote(line) for line in diary.starts(running)] == [True], "a peer ran what was still running"
    assert running in diary.ids("end")
    assert all(len(diary.starts(task_id)) == 1 for task_id in waiting)


@pytest.mark.parametrize(
    ("pool", "prefetch"),
    [("prefork", 40), ("threads", 4), pytest.param("solo", 4, marks=pytest.mark.long), pytest.param("gevent", 4, marks=pytest.mark.long)],
)
def test_no_task_runs_twice_in_a_warm_shutdown(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, prefix: str, size_of: Callable[[str], Any], pool: str, prefetch: int
) -> None:
    """With a large prefetch several messages share a subscription. What returns when differs by pool: docs/reference/broker.md has the table."""
    gate = tmp_path / "gate"
    leaving = fleet.start(pool=pool, slots=1, worker_prefetch_multiplier=prefetch)
    running = client.send("hold", str(gate))
    waiting = [client.send("work") for _ in range(prefetch - 1)]

    def has_all() -> bool:
        if pool in ("prefork", "threads"):
            return all(task_id in leaving.log for task_id in waiting)
        # These hand nothing over while a task runs, so it is the broker that knows.
        return bool(size_of(f"/queue/{prefix}work").in_flight == prefetch)

    wait_for(lambda: running in diary.ids("start") and has_all(), lambda: f"it has all\n{leaving.log}")
    fleet.start(slots=1)
    leaving.signal(signal.SIGTERM)
    after = [client.send("work") for _ in range(10)]
    diary.wait_until_all_ended(after)
    gate.touch()
    diary.wait_until_all_ended([running, *waiting])
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    twice = [task_id for task_id in (running, *waiting, *after) if len(diary.starts(task_id)) > 1]
    assert not twice, f"ran twice: {some(twice)}"
    kept = [task_id for task_id in waiting if leaving.wrote(diary.starts(task_id)[0])]
    if pool != "threads":
        # A thread takes the next by itself until the worker's loop has seen the signal. For one of them gevent already waits for a free greenlet.
        assert len(kept) <= (pool == "gevent"), f"begun by the worker that ends: {some(kept)}"


def test_a_solo_worker_that_is_told_to_end_begins_nothing_that_came_before(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, prefix: str, size_of: Callable[[str], Any]
) -> None:
    """What came together with the running task has left the socket already."""
    first, gate, count = tmp_path / "first", tmp_path / "gate", 16
    leaving = fleet.start(pool="solo", slots=1, worker_prefetch_multiplier=count)
    sent = [client.send("hold", str(first if number == 0 else gate)) for number in range(count)]
    wait_for(lambda: diary.ids("start") and size_of(f"/queue/{prefix}work").in_flight == count, lambda: f"all come while one runs\n{leaving.log}")
    first.touch()
    wait_for(lambda: len(diary.ids("start")) == 2, lambda: f"the next one runs\n{leaving.log}")
    leaving.signal(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in leaving.log, lambda: f"it is told\n{leaving.log}")
    gate.touch()
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    assert [line.task_id for line in diary.lines if line.what == "start"] == sent[:2]
    heir = fleet.start(slots=1)
    diary.wait_until_all_ended(sent, else_tell=lambda: heir.log)
    assert sorted(line.task_id for line in diary.lines if line.what == "start") == sorted(sent), "a task ran twice"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_what_runs_longer_than_heartbeats_after_a_warm_shutdown_is_run_by_no_peer(
    fleet: Fleet,
    client: Client,
    diary: Diary,
    tmp_path: Path,
    prefix: str,
    size_of: Callable[[str], Any],
    outlive: Callable[[float], None],
    pool: str,
) -> None:
    gate = tmp_path / "gate"
    leaving = fleet.start(pool=pool, slots=1, heartbeat_s=1)
    running = client.send("hold", str(gate))
    wait_for(lambda: diary.ids("start"), "it runs")
    fleet.start(slots=1)
    leaving.signal(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in leaving.log, lambda: f"it is told\n{leaving.log}")
    outlive(1)
    gate.touch()
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    wait_for(lambda: (size := size_of(f"/queue/{prefix}work")).waiting + size.in_flight == 0, "it is acknowledged")
    assert [leaving.wrote(line) for line in diary.starts(running)] == [True], leaving.log
    assert running in diary.ids("end")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_cold_shutdown_gives_back_what_runs(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, prefix: str, size_of: Callable[[str], Any], pool: str
) -> None:
    gate = tmp_path / "gate"
    leaving = fleet.start(pool=pool, slots=1, worker_prefetch_multiplier=4)
    running = [client.send("hold", str(gate)) for _ in range(2)]
    wait_for(lambda: diary.ids("start"), "one runs")
    leaving.signal(signal.SIGQUIT)
    if pool == "threads":
        # A thread cannot be stopped: the process ends with it.
        gate.touch()
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    gate.touch()
    heir = fleet.start(slots=1)
    diary.wait_until_all_ended(running, else_tell=lambda: f"{size_of(f'/queue/{prefix}work')}\n{leaving.log}\n{heir.log}")
    diary.check_reruns_are_marked()


def test_a_cold_shutdown_ends_a_task_that_the_worker_has_not_heard_of(fleet: Fleet, client: Client, diary: Diary, tmp_path: Path) -> None:
    """Celery cancels those alone whose children have said that they began, and waits for the others."""
    gate = tmp_path / "gate"
    leaving = fleet.start(slots=1, quit_at=-1)
    running = client.send("hold", str(gate))
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    assert running in diary.ids("start") - diary.ids("end")
    gate.touch()
    heir = fleet.start(slots=1)
    diary.wait_until_all_ended([running], else_tell=lambda: heir.log)
    diary.check_reruns_are_marked()


def test_a_cold_shutdown_does_not_wait_for_a_child_whose_last_result_nobody_reads(
    fleet: Fleet, client: Client, diary: Diary, prefix: str, size_of: Callable[[str], Any]
) -> None:
    leaving = fleet.start(slots=1, quit_at=-2)
    sent = client.send("work")
    wait_for(lambda: sent in diary.ids("end"), lambda: f"it has run\n{leaving.log}")
    [ended] = [line for line in diary.lines if line.what == "end"]
    wait_for(lambda: not leaving.alive, lambda: f"it ends\n{leaving.log}")
    assert time.monotonic() - ended.at < GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT * GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    wait_for(lambda: size_of(f"/queue/{prefix}work").waiting == 1, "what was not acknowledged is back")


# A worker reads two messages and hands them over in about so many points.
POINTS = 1200


@pytest.mark.parametrize(
    ("pool", "step"),
    [
        ("threads", 100),
        pytest.param("threads", 12, marks=pytest.mark.long),
        *(pytest.param(pool, 40, marks=pytest.mark.long) for pool in ("prefork", "gevent")),
    ],
)
def test_a_cold_shutdown_in_the_middle_of_the_transports_work_gives_back_what_came(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, dice: random.Random, pool: str, step: int
) -> None:
    """The handler of the signal interrupts who may hold locks, and they are held until it is done."""
    sent = []
    for number, at in enumerate(range(dice.randrange(1, step + 1), POINTS, step), 1):
        gate = tmp_path / f"gate{at}"
        sent += [client.send("hold", str(gate)) for _ in range(2)]
        leaving = fleet.start(pool=pool, slots=1, wait=False, worker_prefetch_multiplier=4, quit_at=at)
        wait_for(lambda number=number: len(diary.ids("quit")) == number, lambda leaving=leaving: f"it tells itself to end\n{leaving.log}")
        gate.touch()
        wait_for(lambda leaving=leaving: not leaving.alive, lambda leaving=leaving: f"it ends, told at {diary.lines[-1].task_id}\n{leaving.log}")
    heir = fleet.start(slots=1)
    diary.wait_until_all_ended(sent, else_tell=lambda: heir.log)
