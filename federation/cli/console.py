"""What people see of the federation in a terminal; passwords are masked here."""

import re
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from federation.local.state import PartState, PartView, View

# A long line is the terminal's to wrap: text that was wrapped here could not be copied whole.
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

_COLOURS = {
    PartState.RUNNING: "green",
    PartState.DONE: "green",
    PartState.STARTING: "yellow",
    PartState.STOPPING: "yellow",
    PartState.BACKOFF: "red",
}


def masked(url: str) -> str:
    """Return a URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:•••@", url)


def print_json(text: str) -> None:
    """Write JSON to standard output as it is."""
    sys.stdout.write(text + "\n")


def parts_table(parts: Iterable[PartView]) -> Table:
    """Return a table of parts: state, pid, restarts and how each last ended."""
    table = Table("part", "state", "pid", "restarts", "last exit", box=None, pad_edge=False, header_style="bold")
    for part in parts:
        colour = _COLOURS.get(part.state, "dim")
        # The last exit may hold the end of a log: its first line is enough here.
        last = (part.last_exit or "").partition("\n")[0]
        table.add_row(part.name, f"[{colour}]{part.state}[/]", str(part.pid or ""), str(part.restarts or ""), last)
    return table


def view_table(view: View | None) -> Table:
    """Return the table of a supervisor's parts; an empty one before it has told of any."""
    return parts_table(view.parts if view else ())
