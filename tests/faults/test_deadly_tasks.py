"""Tasks that kill the process they run in: they come back, marked as redelivered, and take no other task with them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.diary import Diary, wait_for
from tests.faults.fleet import Fleet
from tests.faults.publishing import Client
from tests.toll import Toll

DEATHS = 2

pytestmark = pytest.mark.long


@pytest.mark.fault("transport: a task kills its own process")
def test_a_task_that_kills_its_child_comes_back_marked(fleet: Fleet, client: Client, diary: Diary, toll: Toll) -> None:
    worker = fleet.start(slots=2)
    deadly = client.send("die", DEATHS, False)
    others = [client.send("work", 0.01) for _ in range(20)]
    diary.wait_until_all_ended([deadly, *others])
    assert [line.redelivered for line in diary.starts(deadly)] == [False] + [True] * DEATHS
    assert worker.alive
    assert all(len(diary.starts(other)) == 1 for other in others)
    # It dies as soon as it has written that it starts.
    starts = [line.at for line in diary.starts(deadly)]
    toll.recovery_s += [again - died for died, again in pairwise(starts)]
    toll.happened(DEATHS, work=len(others) + 1)


def test_a_task_that_kills_its_whole_worker_comes_back_marked(fleet: Fleet, client: Client, diary: Diary) -> None:
    deadly = client.send("die", DEATHS, True)
    others = [client.send("work", 0.01) for _ in range(20)]
    for _ in range(DEATHS + 1):
        worker = fleet.start(slots=1, wait=False)
        wait_for(lambda worker=worker: not worker.alive or diary.ids("end") >= {deadly}, lambda worker=worker: f"it dies or is done\n{worker.log}")
    diary.wait_until_all_ended([deadly, *others])
    assert [line.redelivered for line in diary.starts(deadly)] == [False] + [True] * DEATHS
    diary.check_reruns_are_marked()


@pytest.mark.parametrize(
    "whole_worker",
    [
        pytest.param(False, marks=pytest.mark.fault("transport: a task always kills its process, and is put aside")),
        pytest.param(True, marks=pytest.mark.fault("transport: a task always kills its worker, and is put aside")),
    ],
)
def test_a_task_that_always_kills_is_quarantined_after_the_limit(
    fleet: Fleet, client: Client, diary: Diary, prefix: str, size_of: Callable[[str], Any], toll: Toll, whole_worker: bool
) -> None:
    deadly = client.send("die", 10**6, whole_worker)

    def quarantined() -> bool:
        size = size_of(f"/queue/DLQ.{prefix}work")
        return size is not None and size.waiting == 1

    while not quarantined():
        worker = fleet.start(slots=1, wait=False, options={"on_redelivered": "project:refuse_after_two"})
        wait_for(lambda worker=worker: not worker.alive or quarantined(), lambda worker=worker: f"it dies or refuses\n{worker.log}")
    starts = diary.starts(deadly)
    assert [line.redelivered for line in starts] == [False, True, True]
    other = client.send("work")
    diary.wait_until_all_ended([other])
    toll.recovery_s += [again.at - died.at for died, again in pairwise(starts)]
    toll.happened(len(starts), work=2)


def test_a_task_that_always_kills_its_child_leaves_the_worker_able_to_work(fleet: Fleet, client: Client, diary: Diary) -> None:
    """Without a limit it comes back for ever, as ActiveMQ counts nothing over STOMP; a peer's work goes on meanwhile."""
    fleet.start(slots=2)
    deadly = client.send("die", 10**6, False)
    wait_for(lambda: len(diary.starts(deadly)) > DEATHS, "it is delivered again and again")
    diary.wait_until_all_ended([client.send("work") for _ in range(20)])
