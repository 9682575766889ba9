"""The simulation's figures as a picture; measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.placement.cost import Cost
from benchmarks.placement.simulation import Outcome, Policy

_LOOK: dict[Policy, tuple[str, str]] = {"ours": ("#1f6feb", "placement"), "random": ("#9a6700", "any capable node")}


def draw(outcomes: Sequence[Outcome], costs: Mapping[int, Cost], path: Path) -> None:
    """Write an SVG: what a choice costs, how long executions wait, how full the fullest node is, each over the number of nodes."""
    mpl.rcParams["svg.hashsalt"] = "federation"
    figure, (cost, wait, full) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for policy, (colour, label) in _LOOK.items():
        found = sorted((outcome for outcome in outcomes if outcome.policy == policy), key=lambda outcome: outcome.nodes)
        nodes = [outcome.nodes for outcome in found]
        wait.plot(nodes, [outcome.wait_p99_s for outcome in found], "o-", color=colour, label=label)
        full.plot(nodes, [outcome.fullest for outcome in found], "o-", color=colour, label=label)
        if policy == "ours":
            full.plot(nodes, [outcome.average for outcome in found], ":", color="#57606a", label="average node")
    cost.plot(list(costs), [found.choice_us for found in costs.values()], "o-", color=_LOOK["ours"][0])
    cost.set(title="Cost of a choice", ylabel="µs", ylim=(0, None))
    wait.set(title="Waiting for a place, p99", ylabel="× an execution's time", yscale="log")
    full.set(title="Unfinished work of the fullest node", ylabel="per place", yscale="log")
    for axes in (cost, wait, full):
        axes.set(xscale="log", xlabel="nodes")
        axes.grid(visible=True, alpha=0.3)
    for axes in (wait, full):
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
