"""What the transport is to reach beside its peers, and whether it does; measures nothing."""

from collections.abc import Sequence

from benchmarks.broker.cells import RAW
from benchmarks.goals import Goal, told, values
from benchmarks.intervals import paired_ratio
from benchmarks.readings import Reading
from benchmarks.summary import summarize

AHEAD = 1.2
OF_RAW = 0.7
IDLE_PERCENT = 0.3
_CONSUME = RAW.name.replace("raw", "consume")


def judged(readings: Sequence[Reading], ours: str) -> list[Goal]:
    """Return each goal with what was found."""
    lines = summarize(readings, ours)
    goals = []
    for table, measure in dict.fromkeys((line.table, line.measure) for line in lines):
        here = {line.peer: line for line in lines if (line.table, line.measure) == (table, measure)}
        row, peers = f"{table}: {measure}", [line for line in here.values() if line.ratio is not None]
        if measure.startswith(("publish", "batch", "consume", "processed")) and peers:
            better = max(peers, key=lambda line: line.median)
            assert better.ratio is not None
            goals.append(
                Goal(
                    f"{AHEAD:g} × the better peer",
                    row,
                    f"{told(better.ratio)} of {better.peer}",
                    better.ratio.median >= AHEAD and better.ratio.low > 1,
                )
            )
        elif measure == "p50_ms" and peers and "durable and" in table and "neither" not in table:
            amqp = min(peers, key=lambda line: line.peer != "pyamqp")
            assert amqp.ratio is not None
            goals.append(Goal("p50 not above RabbitMQ's", row, f"{told(amqp.ratio)} of {amqp.peer}", amqp.ratio.median <= 1))
        elif measure == "idle_worker_percent":
            broker = next((line.median for line in lines if (line.table, line.measure, line.peer) == (table, "idle_broker_percent", ours)), None)
            beside = "" if broker is None else f" (its broker {broker:.2f} %)"
            goals.append(Goal(f"idle ≤ {IDLE_PERCENT:g} %", row, f"{here[ours].median:.2f} %{beside}", here[ours].median <= IDLE_PERCENT))
    for table in dict.fromkeys(line.table for line in lines if line.measure == RAW.name):
        mine, raw = (values(readings, table, name, ours) for name in (_CONSUME, RAW.name))
        ratio = paired_ratio(mine, raw)
        goals.append(Goal(f"{OF_RAW:g} × a raw socket", f"{table}: {_CONSUME}", f"{told(ratio)} of a raw socket", ratio.median >= OF_RAW))
    return goals
