"""What the transport is to reach beside its peers, and whether it does; measures nothing."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.broker.cells import RAW
from benchmarks.intervals import Ratio, paired_ratio
from benchmarks.readings import Reading
from benchmarks.summary import summarize

AHEAD = 1.2
OF_RAW = 0.7
IDLE_PERCENT = 0.3
_CONSUME = RAW.name.replace("raw", "consume")


def show_goals(readings: Sequence[Reading], ours: str, console: Console) -> None:
    """Print each goal with what was found."""
    table = Table("goal", "row", "found", title="Goals", title_justify="left", title_style="bold")
    for goal, row, found, held in _judged(readings, ours):
        table.add_row(goal, row, f"[{'green' if held else 'red'}]{found}, {'held' if held else 'not held'}[/]")
    console.print(table)


def _judged(readings: Sequence[Reading], ours: str) -> list[tuple[str, str, str, bool]]:
    lines = summarize(readings, ours)
    judged = []
    for table, measure in dict.fromkeys((line.table, line.measure) for line in lines):
        here = {line.peer: line for line in lines if (line.table, line.measure) == (table, measure)}
        row, peers = f"{table}: {measure}", [line for line in here.values() if line.ratio is not None]
        if measure.startswith(("publish", "batch", "consume", "processed")) and peers:
            better = max(peers, key=lambda line: line.median)
            assert better.ratio is not None
            judged.append(
                (
                    f"{AHEAD:g} × the better peer",
                    row,
                    f"{_told(better.ratio)} of {better.peer}",
                    better.ratio.median >= AHEAD and better.ratio.low > 1,
                )
            )
        elif measure == "p50_ms" and peers and "durable and" in table and "neither" not in table:
            amqp = min(peers, key=lambda line: line.peer != "pyamqp")
            assert amqp.ratio is not None
            judged.append(("p50 not above RabbitMQ's", row, f"{_told(amqp.ratio)} of {amqp.peer}", amqp.ratio.low <= 1))
        elif measure == "idle_worker_percent":
            judged.append((f"idle ≤ {IDLE_PERCENT:g} %", row, f"{here[ours].median:.2f} %", here[ours].median <= IDLE_PERCENT))
    for table in dict.fromkeys(line.table for line in lines if line.measure == RAW.name):
        mine, raw = (_values(readings, table, name, ours) for name in (_CONSUME, RAW.name))
        ratio = paired_ratio(mine, raw)
        judged.append((f"{OF_RAW:g} × a raw socket", f"{table}: {_CONSUME}", _told(ratio), ratio.median >= OF_RAW))
    return judged


def _values(readings: Sequence[Reading], table: str, measure: str, peer: str) -> list[float]:
    return [reading.value for reading in readings if (reading.table, reading.measure, reading.peer) == (table, measure, peer)]


def _told(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} – {ratio.high:.2f})"
