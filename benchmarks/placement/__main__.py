"""Placement on a thousand nodes and a million executions, simulated: `python -m benchmarks.placement --help`.

Exit code 0 when it was measured, whether or not the goals held.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import machine
from benchmarks.goals import Goal, show_goals
from benchmarks.placement.cost import Cost, cost
from benchmarks.placement.plot import draw
from benchmarks.placement.simulation import BUSY, DOORS, FRESH_S, Outcome, Policy, Simulation
from benchmarks.run import keep

SIZES, LARGE = (10, 30, 100, 300, 1_000, 3_000, 10_000), 1_000
EXECUTIONS, MANY = 200_000, 1_000_000
# From 10 nodes to 10,000 the logarithm grows fourfold, and no choice may grow more.
GROWTH = 4.0
# With places 80 % busy, an execution may wait for so many times what one takes.
WAIT_S = 3.0
# And the fullest node hold so many unfinished executions for each of its places.
FULLEST = 5.0

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw the figures as an SVG.")]
Quick = Annotated[bool, typer.Option("--quick", help="Little, to see that it works.")]


def placement(*, quick: Quick = False, json_file: JsonFile = None, plot_file: PlotFile = None) -> None:
    """Simulate, and print figures and goals."""
    console = Console(width=120)
    plan: list[tuple[int, int, Policy]] = [(size, EXECUTIONS, policy) for size in SIZES for policy in ("ours", "random")]
    if quick:
        plan = [(size, EXECUTIONS // 20, policy) for size in SIZES[:4] for policy in ("ours", "random")]
    plan = [(size, MANY if size == LARGE else executions, policy) for size, executions, policy in plan]
    costs = {size: cost(size) for size in sorted({size for size, _, _ in plan})}
    outcomes = []
    with Progress(console=console, transient=True) as progress:
        for nodes, executions, policy in plan:
            bar = progress.add_task(f"{nodes} nodes, {policy}", total=executions)
            outcomes.append(Simulation(nodes, executions, policy).run(lambda done, bar=bar: progress.update(bar, completed=done)))  # type: ignore[misc]
            progress.remove_task(bar)
    console.print(
        f"{DOORS} processes place, each looks anew after {FRESH_S:g} s; places {BUSY:.0%} busy; an execution takes 1 s on average (exponential)."
    )
    _show(outcomes, costs, console)
    goals = _judged(outcomes, costs)
    show_goals(goals, console)
    if plot_file:
        draw(outcomes, costs, plot_file)
        console.print(f"Drawn in {plot_file}.")
    kept = {
        "commit": machine.revision(),
        "goals": [goal._asdict() for goal in goals],
        "machine": machine.facts(Path.cwd()),
        "costs": {size: asdict(found) for size, found in costs.items()},
        "outcomes": [asdict(found) for found in outcomes],
    }
    keep(kept, console, json_file)


def _show(outcomes: list[Outcome], costs: dict[int, Cost], console: Console) -> None:
    table = Table("nodes", "tasks", "policy", "µs a choice", "ms a look", "wait p50", "p99", "longest", "fullest", "at most", "average", "warm")
    for found in outcomes:
        table.add_row(
            f"{found.nodes:,}",
            f"{found.executions:,}",
            found.policy,
            *((f"{costs[found.nodes].choice_us:.1f}", f"{costs[found.nodes].look_us / 1000:.2f}") if found.policy == "ours" else ("", "")),
            *(f"{seconds:.2f} s" for seconds in (found.wait_p50_s, found.wait_p99_s, found.wait_max_s)),
            f"{found.fullest:.2f}",
            f"{found.fullest_max:.2f}",
            f"{found.average:.2f}",
            f"{found.warm:.0%}",
        )
    console.print(table)


def _judged(outcomes: list[Outcome], costs: dict[int, Cost]) -> list[Goal]:
    few, many = min(costs), max(costs)
    growth = costs[many].choice_us / costs[few].choice_us
    waits = {found.nodes: found.wait_p99_s for found in outcomes if found.policy == "ours"}
    fullest = {found.nodes: found.fullest_max for found in outcomes if found.policy == "ours"}
    longest = max(waits, key=lambda nodes: waits[nodes])
    return [
        Goal(f"a choice costs ≤ {GROWTH:g} × as much", f"{many:,} nodes beside {few:,}", f"{growth:.1f}", growth <= GROWTH),
        Goal(f"p99 of waiting ≤ {WAIT_S:g} s", f"{longest:,} nodes, the worst", f"{waits[longest]:.2f} s", waits[longest] <= WAIT_S),
        Goal(f"the fullest node holds ≤ {FULLEST:g} a place", "at any second", f"{max(fullest.values()):.2f}", max(fullest.values()) <= FULLEST),
    ]


if __name__ == "__main__":
    typer.run(placement)
