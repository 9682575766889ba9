"""A kept run of `make bench-broker` as the rows of a table for the documentation; measures nothing and judges by `goals` alone."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.broker import cells
from benchmarks.broker.goals import judged
from benchmarks.goals import Goal, told
from benchmarks.readings import Measure, Reading
from benchmarks.rounds import MEASURES, POOLS
from benchmarks.summary import Line, summarize

OURS = "activemq (ours)"
KINDS = ("durable and confirmed", "neither durable nor confirmed")
TABLES = ("kombu", *(pool.title for pool in POOLS))
HEAD = ("", "durable and confirmed: ours", "beside the better peer", "neither: ours", "beside the better peer")


def rows(run: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Return a row for each measure: ours, its ratio to the better peer with the interval, and whether a goal was held."""
    readings = [Reading(**reading) for reading in run["readings"]]
    goals, lines = judged(readings, OURS), summarize(readings, OURS)
    for table in TABLES:
        for measure in (*cells.MEASURES, *MEASURES):
            told = [_cells(f"{table}, {kind}", measure, lines, goals) for kind in KINDS]
            if any(ours for ours, _ in told):
                title = measure.title if table == "kombu" else f"{table.partition(',')[0]}: {measure.title}"
                yield (title, *told[0], *told[1])


def about(run: Mapping[str, Any]) -> str:
    """Return what made the figures."""
    machine, versions = run["machine"], run["versions"]
    at = f"At `{run['commit']}`, on" if run.get("commit") else "On"
    return (
        f"{at} {machine['cores']} cores and a disk that took {median(run['commits_ms']):.2f} ms for a durable write, medians of "
        f"{run['plan']['rounds']} interleaved rounds with their 95 % bootstrap intervals, Celery {versions['celery']}, kombu {versions['kombu']}. "
        "Of rates a ratio above 1 is better, of times one below. Servers: "
        + ", ".join(dict.fromkeys(f"{name} {version}" for peer in run["peers"] for name, version in peer["versions"].items()))
        + "; where messages are durable, each syncs to disk before it confirms. The memory of a connection is what 30 of them added; a broker's own "
        "bookkeeping is in it, and may shrink meanwhile."
    )


def _cells(table: str, measure: Measure, lines: Sequence[Line], goals: Sequence[Goal]) -> tuple[str, str]:
    here = {line.peer: line for line in lines if (line.table, line.measure) == (table, measure.name)}
    mine = here.pop(OURS, None)
    if mine is None:
        return "", ""
    verdicts = [f"{goal.found}: {_shown(goal)}" for goal in goals if goal.row == f"{table}: {measure.name}"]
    if measure.name.startswith("idle") or measure.name.endswith("_kib"):
        # What may be nothing has no ratio that says anything.
        beside = ", ".join(f"{name} {line.median:.{measure.decimals}f}" for name, line in here.items())
        return f"{mine.median:.{measure.decimals}f}", "; ".join([beside, *(_shown(goal) for goal in goals if goal.row == f"{table}: {measure.name}")])
    if not verdicts and here:
        better = (max if measure.more_is_better else min)(here.values(), key=lambda line: line.median)
        verdicts = [f"{told(better.ratio)} of {better.peer}"] if better.ratio else []
    return f"{mine.median:,.{measure.decimals}f}", "; ".join(verdicts)


def _shown(goal: Goal) -> str:
    return goal.verdict if goal.held else f"**{goal.verdict}**"
