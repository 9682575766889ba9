"""What people see of the federation in a terminal; passwords are masked here, and what agents wrote cannot command the terminal."""

import os
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from federation.foreign import visible
from federation.local.state import PartState, PartView, View
from federation.settings import masked

# Rich colours a terminal only, and not where NO_COLOR is set. A line that is piped is for a program or a file: nothing cuts it.
_WIDE = 10_000
# A long line is the terminal's to wrap: text that was wrapped here could not be copied whole.
# `:name:` stays what somebody wrote, and becomes no picture.
console = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True, width=None if sys.stderr.isatty() else _WIDE)

_COLOURS = {
    PartState.RUNNING: "green",
    PartState.DONE: "green",
    PartState.STARTING: "yellow",
    PartState.STOPPING: "yellow",
    PartState.BACKOFF: "red",
}


def inert(text: object) -> str:
    """Return text of others for a place that takes rich's markup: it shows as it is, and neither colours nor commands anything."""
    return escape(visible(str(text)))


def give_up_output() -> None:
    """Send what is still said to nowhere, when the terminal is gone: what is buffered for it must not fail when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(text: str) -> None:
    """Write JSON to standard output as it is."""
    sys.stdout.write(text + "\n")


def table(*titles: str) -> Table:
    """Return an empty table without lines, whose cells wrap instead of being cut."""
    columns = (Column(title, overflow="fold") for title in titles)
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def parts_table(parts: Iterable[PartView]) -> Table:
    """Return a table of parts: state, pid, restarts and how each last ended."""
    made = table("part", "state", "pid", "restarts", "last exit")
    for part in parts:
        colour = _COLOURS.get(part.state, "dim")
        # The last exit may hold the end of a log: its first line is enough here.
        last = (part.last_exit or "").partition("\n")[0]
        made.add_row(part.name, f"[{colour}]{part.state}[/]", str(part.pid or ""), str(part.restarts or ""), inert(last))
    return made


def view_table(view: View | None) -> Table:
    """Return the table of a supervisor's parts; an empty one before it has told of any."""
    made = parts_table(view.parts if view else ())
    made.caption = inert(view.problem) if view and view.problem else None
    return made


def address_lines(addresses: Mapping[str, str | None]) -> list[str]:
    """Return where each service is, a line each, with passwords masked."""
    return [f"[bold]{name:<21}[/] {inert(masked(address)) if address else 'not set'}" for name, address in addresses.items()]
