"""What a process tree costs, and which limits hold."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from benchmarks.idle import Cost, exceeded, measure
from benchmarks.processes import Usage, parse_stat, pss_mib, tree, usages
from benchmarks.waking import waking_for

FRONT_DOOR = Cost("frontdoor", 1, 0.3, 0.3, 100.0, is_worker=False, holds_model=False)
WORKER = Cost("baby", 1, 0.3, 0.3, 90.0, is_worker=True, holds_model=False)


def test_name_with_blanks_and_brackets_does_not_shift_the_fields() -> None:
    hertz = os.sysconf("SC_CLK_TCK")
    fields = ["S", "7", *"0" * 9, str(hertz), str(hertz), str(2 * hertz), "0", *"0" * 4, "4711", "0"]
    assert parse_stat(f"42 (a) b (c) {' '.join(fields)}") == Usage(42, 7, "4711", 4.0)


def test_own_process_is_found_below_itself_with_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(tree(os.getpid(), usages()))
        assert pss_mib([os.getpid()]) > 1
    assert child.pid not in tree(os.getpid(), usages())


def test_process_that_ended_costs_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert pss_mib([child.pid]) == 0
    assert tree(child.pid, usages()) == []


# Above the highest pid that Linux gives, so that no real process is looked at.
SUPERVISOR, DOOR, NODE, CHILD = 5_000_010, 5_000_100, 5_000_200, 5_000_201
TOLD = {"pid": SUPERVISOR, "parts": [{"name": "frontdoor", "pid": DOOR}, {"name": "baby", "pid": NODE}], "nodes": [{"name": "baby"}]}


def spent(door_s: float, node_s: float, *children: Usage) -> dict[int, Usage]:
    family = [Usage(SUPERVISOR, 1, "1", 0.0), Usage(DOOR, SUPERVISOR, "2", door_s), Usage(NODE, SUPERVISOR, "3", node_s)]
    return {usage.pid: usage for usage in [*family, *children]}


def costs(before: dict[int, Usage], after: dict[int, Usage]) -> dict[str, Cost]:
    return {cost.part: cost for cost in measure(TOLD, before, after, 10.0)}


def test_each_part_counts_for_itself_and_its_children() -> None:
    found = costs(spent(1.0, 2.0, Usage(CHILD, NODE, "4", 3.0)), spent(1.1, 2.2, Usage(CHILD, NODE, "4", 3.3)))
    assert {name: cost.processes for name, cost in found.items()} == {"supervisor": 1, "frontdoor": 1, "baby": 2}
    assert found["supervisor"].cpu_percent == 0
    assert found["frontdoor"].cpu_percent == pytest.approx(1)
    assert found["baby"].cpu_percent == pytest.approx(5)
    assert found["baby"].busiest_percent == pytest.approx(3)
    assert found["baby"].is_worker
    assert not found["frontdoor"].is_worker


def test_child_that_ended_between_the_looks_counts_once() -> None:
    # Its parent reaped it: 3.0 s of before and 0.1 s of since then are in the parent's account.
    found = costs(spent(0, 2.0, Usage(CHILD, NODE, "4", 3.0)), spent(0, 5.1))
    assert found["baby"].cpu_percent == pytest.approx(1)


def test_new_process_with_an_old_pid_counts_from_its_birth() -> None:
    found = costs(spent(0, 0, Usage(CHILD, NODE, "4", 9.0)), spent(0, 9.0, Usage(CHILD, NODE, "5", 0.2)))
    assert found["baby"].cpu_percent == pytest.approx(2)


def test_part_that_is_gone_is_not_counted() -> None:
    after = spent(0, 0)
    del after[NODE]
    assert set(costs(spent(0, 0), after)) == {"supervisor", "frontdoor"}


def test_a_quiet_federation_exceeds_nothing() -> None:
    assert exceeded([FRONT_DOOR, WORKER, Cost("taichi", 1, 0.5, 0.5, 900.0, is_worker=True, holds_model=True)]) == []


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (dataclasses.replace(FRONT_DOOR, pss_mib=151.0), "frontdoor: 151 MiB"),
        (dataclasses.replace(WORKER, pss_mib=200.0), "baby: 200 MiB"),
        (dataclasses.replace(WORKER, busiest_percent=1.2), "baby: a process takes 1.20 %"),
        (dataclasses.replace(WORKER, holds_model=True), "no worker without a model"),
    ],
)
def test_each_limit_is_told_by_name(cost: Cost, said: str) -> None:
    others = [other for other in (FRONT_DOOR, WORKER) if other.part != cost.part]
    [line] = exceeded([cost, *others])
    assert line.startswith(said)


def test_front_door_that_does_not_run_is_no_success() -> None:
    assert exceeded([WORKER]) == ["frontdoor is not running: its memory could not be looked at"]


def test_what_it_costs_to_wake_is_looked_at_for_as_long_as_the_parts_are() -> None:
    began = time.monotonic()
    waking = waking_for(0.2)
    assert waking.after_pause_ms > 0
    assert waking.back_to_back_ms > 0
    assert time.monotonic() - began >= 0.2
