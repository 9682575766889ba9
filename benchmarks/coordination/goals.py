"""What is measured by which name, what it is to reach beside the floor, and whether it does; measures nothing."""

from collections.abc import Sequence

from benchmarks.goals import Goal, told, values
from benchmarks.intervals import paired_ratio
from benchmarks.readings import Reading

OURS, FLOOR = "federation", "floor"
OPERATIONS = {
    "send": "send → a waiting inbox",
    "pulse": "state update → a waiting pulse",
    "topic": "state update → the event topic",
    "claim": "claim",
    "vote": "vote",
    "delegate": "delegate → claimed",
}
AT_MOST = {50: 1.5, 99: 2.0}
# What the whitepaper names, in milliseconds: a message from node to node, on average; a state until others see it.
NAMED_MS = {"send": 47.0, "pulse": 100.0}


def table_of(agents: int) -> str:
    """Return what stands above the figures of so many agents at once."""
    return f"{agents} agent{'s' if agents > 1 else ''} at once"


def judged(readings: Sequence[Reading]) -> list[Goal]:
    """Return each goal with what was found: for each operation, percentile and number of agents the ratio to the floor of the same round."""
    goals = []
    for table in dict.fromkeys(reading.table for reading in readings):
        for name, title in OPERATIONS.items():
            for percent, most in AT_MOST.items():
                mine, floor = (values(readings, table, f"{name}_p{percent}_ms", peer) for peer in (OURS, FLOOR))
                if mine and len(mine) == len(floor):
                    ratio = paired_ratio(mine, floor)
                    goals.append(Goal(f"p{percent} ≤ {most:g} × the floor", f"{title}, {table}", told(ratio), ratio.median <= most))
    return goals
