"""What a running federation costs while nobody asks it anything: CPU and memory of each part; starts and changes nothing.

Exit code 3 when none is running; with `--limits` 1 when a limit is exceeded.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.processes import Usage, holds_model, pss_mib, tree, usages
from benchmarks.waking import waking_for
from federation.errors import LocalServiceError

CPU_LIMIT_PERCENT = 1.0
MEMORY_LIMIT_MIB = 150.0
FRONT_DOOR = "frontdoor"
NOT_RUNNING = 3

Seconds = Annotated[float, typer.Option(min=1, help="How long to look.")]
Limits = Annotated[bool, typer.Option("--limits", help=f"Exit code 1 above {CPU_LIMIT_PERCENT:g} % or {MEMORY_LIMIT_MIB:g} MiB.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]


@dataclass(frozen=True)
class Cost:
    """One part with all processes below it; percentages are of one core."""

    part: str
    processes: int
    cpu_percent: float
    busiest_percent: float
    pss_mib: float
    is_worker: bool
    holds_model: bool

    @property
    def memory_limit_mib(self) -> float | None:
        """The limit that holds for the front door and for a worker without models."""
        return MEMORY_LIMIT_MIB if self.part == FRONT_DOOR or (self.is_worker and not self.holds_model) else None

    @property
    def too_large(self) -> bool:
        """Whether a limit holds and it is above it."""
        return self.memory_limit_mib is not None and self.pss_mib > self.memory_limit_mib


def idle(*, seconds: Seconds = 60.0, limits: Limits = False, json_file: JsonFile = None) -> None:
    """Look at a running federation and print what each part costs."""
    console = Console()
    told = federation_status()
    if not told["running"]:
        console.print("The federation is not running. Start it with: federation up --detach")
        raise typer.Exit(NOT_RUNNING)
    before = usages()
    with console.status(f"Looking for {seconds:g} s."):
        began = time.monotonic()
        waking = waking_for(seconds)
        after, took_s = usages(), time.monotonic() - began
    costs = measure(told, before, after, took_s)
    broken = exceeded(costs)
    console.print(_table(costs))
    console.print(
        f"Over {took_s:.0f} s; percent of one core; PSS summed over the processes of a part. "
        f"Limits: {CPU_LIMIT_PERCENT:g} % for each process; {MEMORY_LIMIT_MIB:g} MiB for {FRONT_DOOR} and each worker that holds no model.",
        highlight=False,
    )
    console.print(str(waking), highlight=False)
    for line in broken:
        console.print(f"[red]{line}[/]", highlight=False)
    if json_file:
        json_file.write_text(
            json.dumps({"seconds": took_s, "waking": asdict(waking), "parts": [asdict(cost) for cost in costs], "exceeded": broken}, indent=1) + "\n"
        )
    raise typer.Exit(1 if limits and broken else 0)


def federation_status() -> dict[str, Any]:
    """Return what `federation status --json` says. Raises LocalServiceError when it says nothing."""
    done = subprocess.run([sys.executable, "-m", "federation.cli.main", "status", "--json"], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise LocalServiceError(f"federation status --json ended with status {done.returncode}:\n{done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measure(told: Mapping[str, Any], before: Mapping[int, Usage], after: Mapping[int, Usage], took_s: float) -> list[Cost]:
    """Return what the supervisor and each part cost between the two looks."""
    workers = {node["name"] for node in told["nodes"]}
    living = [(part["name"], int(part["pid"])) for part in told["parts"] if part["pid"] in after]
    mine = {pid for _, pid in living}
    costs = []
    for name, root in [("supervisor", int(told["pid"])), *living]:
        # The parts descend from the supervisor, and each counts for itself.
        pids = [pid for pid in tree(root, after) if pid == root or not mine & set(_line(pid, root, after))]
        percents = [_spent_s(pid, before, after) / took_s * 100 for pid in pids]
        costs.append(Cost(name, len(pids), sum(percents), max(percents, default=0.0), pss_mib(pids), name in workers, holds_model(pids)))
    return costs


def exceeded(costs: Sequence[Cost]) -> list[str]:
    """Return a sentence for each limit that does not hold, or that could not be looked at."""
    found = [
        f"{cost.part}: a process takes {cost.busiest_percent:.2f} % of a core, the limit is {CPU_LIMIT_PERCENT:g} %"
        for cost in costs
        if cost.busiest_percent > CPU_LIMIT_PERCENT
    ]
    found += [f"{cost.part}: {cost.pss_mib:.0f} MiB, the limit is {cost.memory_limit_mib:g} MiB" for cost in costs if cost.too_large]
    if not any(cost.part == FRONT_DOOR for cost in costs):
        found.append(f"{FRONT_DOOR} is not running: its memory could not be looked at")
    if not any(cost.is_worker and not cost.holds_model for cost in costs):
        found.append("no worker without a model is running: start anew with federation down, federation up --detach")
    return found


def _spent_s(pid: int, before: Mapping[int, Usage], after: Mapping[int, Usage]) -> float:
    now, earlier = after[pid], before.get(pid)
    if earlier is None or not _lives_on(earlier, after):
        return now.cpu_s
    # A child that ended between the looks is now in its parent's account, with what it had spent before the first look too.
    inherited_s = sum(child.cpu_s for child in before.values() if child.parent == pid and not _lives_on(child, after))
    return max(0.0, now.cpu_s - earlier.cpu_s - inherited_s)


def _lives_on(usage: Usage, after: Mapping[int, Usage]) -> bool:
    return usage.pid in after and after[usage.pid].born == usage.born


def _line(pid: int, root: int, among: Mapping[int, Usage]) -> list[int]:
    # From the process upwards, its ancestors below the root.
    line = []
    while pid != root:
        line.append(pid)
        pid = among[pid].parent
    return line


def _table(costs: Sequence[Cost]) -> Table:
    table = Table("part", "processes", "CPU %", "busiest process %", "PSS MiB", "model")
    for column in table.columns[1:5]:
        column.justify = "right"
    for cost in costs:
        busy = f"{cost.busiest_percent:.2f}"
        memory = f"{cost.pss_mib:.0f}"
        table.add_row(
            cost.part,
            str(cost.processes),
            f"{cost.cpu_percent:.2f}",
            f"[red]{busy}[/]" if cost.busiest_percent > CPU_LIMIT_PERCENT else busy,
            f"[red]{memory}[/]" if cost.too_large else memory,
            "loaded" if cost.holds_model else "",
        )
    return table


if __name__ == "__main__":
    typer.run(idle)
