"""Workers die at random moments, all their processes at once: no task is lost, and a second run is marked as a redelivery."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.diary import Diary, wait_for
from tests.faults.fleet import Fleet
from tests.faults.publishing import Client
from tests.toll import Toll

TASKS, KILLS, WORKERS = 500, 20, 4

pytestmark = pytest.mark.long


@pytest.mark.fault("transport: workers SIGKILLed with all their processes")
def test_no_task_of_five_hundred_is_lost_with_twenty_workers_killed(
    fleet: Fleet,
    client: Client,
    diary: Diary,
    dice: random.Random,
    prefix: str,
    size_of: Callable[[str], Any],
    tell: Callable[[str], None],
    toll: Toll,
) -> None:
    for _ in range(WORKERS):
        fleet.start(wait=False)
    for _ in range(TASKS):
        client.send("work", 0.04)
    killed: list[tuple[int, float]] = []
    for count in sorted(dice.sample(range(5, TASKS - 20), KILLS)):
        wait_for(lambda count=count: len(diary.ids("start")) >= count, f"{count} tasks have started")
        victim = fleet.any_ready(dice)
        # Anywhere in a task.
        threading.Event().wait(dice.uniform(0, 0.05))
        # Before it happens: what it had in hand may run elsewhere before the kill returns.
        killed.append((victim.pid, time.monotonic()))
        victim.kill()
        fleet.start(wait=False)
    diary.wait_until_all_ended(client.sent)
    diary.check_reruns_are_marked()
    assert len(client.sent) == TASKS
    assert not client.published_again
    wait_for(lambda: (size := size_of(f"/queue/{prefix}work")).waiting + size.in_flight == 0, "all is acknowledged")
    assert size_of(f"/queue/DLQ.{prefix}work") is None, "a killed worker's task went to the dead letters"
    toll.recovery_s += [diary.taken_over_s(hit, pid, at) for pid, at in killed if (hit := diary.unended(pid))]
    toll.happened(KILLS, work=TASKS)
    interrupted = len([line for line in diary.lines if line.what == "start"]) - TASKS
    tell(f"{interrupted} tasks were interrupted and ran again")
