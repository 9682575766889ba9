"""Goals beside what was found, as a table; sets none."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.intervals import Ratio
from benchmarks.readings import Reading


class Goal(NamedTuple):
    """What was to be reached, in which row, what was found, and whether that is enough."""

    goal: str
    row: str
    found: str
    held: bool

    @property
    def verdict(self) -> str:
        """Whether it is reached, in words."""
        return "held" if self.held else "not held"


def show_goals(goals: Sequence[Goal], console: Console) -> None:
    """Print each goal with what was found."""
    table = Table("goal", "row", "found", title="Goals", title_justify="left", title_style="bold")
    for goal in goals:
        table.add_row(goal.goal, goal.row, f"[{'green' if goal.held else 'red'}]{goal.found}, {goal.verdict}[/]")
    console.print(table)


def values(readings: Sequence[Reading], table: str, measure: str, peer: str) -> list[float]:
    """Return one measure of one peer, round by round."""
    return [reading.value for reading in readings if (reading.table, reading.measure, reading.peer) == (table, measure, peer)]


def told(ratio: Ratio) -> str:
    """Return a ratio and its interval as text."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} – {ratio.high:.2f})"
