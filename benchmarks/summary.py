"""What the readings of all rounds say: the median of each measure, and ours against each peer; prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.intervals import Ratio, paired_ratio
from benchmarks.readings import Reading


@dataclass(frozen=True)
class Line:
    """One measure in one table at one peer; `ratio` is ours divided by the peer's, None for ourselves."""

    table: str
    measure: str
    peer: str
    median: float
    ratio: Ratio | None


def summarize(readings: Sequence[Reading], ours: str) -> list[Line]:
    """Return a line for each table, measure and peer, in the order of the readings, ours first."""
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for reading in readings:
        found.setdefault((reading.table, reading.measure), {}).setdefault(reading.peer, {})[reading.round] = reading.value
    lines = []
    for (table, measure), peers in found.items():
        mine = peers.get(ours, {})
        lines += [
            Line(table, measure, peer, median(values.values()), _ratio(mine, values) if peer != ours else None)
            for peer, values in sorted(peers.items(), key=lambda item: (item[0] != ours, item[0]))
        ]
    return lines


def _ratio(mine: dict[int, float], theirs: dict[int, float]) -> Ratio | None:
    # A figure of zero, such as the CPU of an idle process, has no ratio.
    rounds = [number for number in mine if theirs.get(number)]
    return paired_ratio([mine[number] for number in rounds], [theirs[number] for number in rounds]) if rounds else None
