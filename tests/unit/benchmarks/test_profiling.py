"""What a profile of one row counts: the measured part alone, and the broker's CPU by its threads."""

import cProfile
import os
import pstats
import time

import pytest
from typer import BadParameter

from benchmarks.broker.cells import CELLS, Cell
from benchmarks.broker.profiling import Watched, row, thread_seconds


def functions(profile: cProfile.Profile) -> set[str]:
    return {name for _, _, name in pstats.Stats(profile).stats}  # type: ignore[attr-defined]  # without types


@pytest.mark.parametrize(("verb", "seen", "unseen"), [("publish", "send", "drain"), ("consume", "drain", "send")])
def test_only_the_measured_part_is_counted_and_profiled(verb: str, seen: str, unseen: str) -> None:
    bench = Watched("memory://", durable=False, broker_pid=os.getpid())
    bench.profile = cProfile.Profile()
    rate = bench.measure(Cell(verb, 20, 10))
    assert bench.spent is not None
    assert bench.spent.rate == rate > 0
    assert seen in functions(bench.profile)
    assert unseen not in functions(bench.profile)


def test_the_seconds_of_all_threads_are_found() -> None:
    before, spent = sum(thread_seconds(os.getpid()).values()), time.thread_time()
    while time.thread_time() - spent < 0.1:
        pass
    # The kernel counts in hundredths.
    assert sum(thread_seconds(os.getpid()).values()) - before >= 0.05


def test_a_row_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadParameter, match=CELLS[0].name):
        row("publish_1_1")
