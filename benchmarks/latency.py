"""How long work takes from node to node, as a run that can be kept: figures beside the goal; measures nothing, `make latency` does."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.goals import Goal
from benchmarks.intervals import percentile

# What the whitepaper names for a message between two machines.
GOAL_MS = 47.0


def figures(took_ms: Sequence[float]) -> dict[str, float]:
    """Return percentiles, in milliseconds."""
    return {"p50_ms": percentile(took_ms, 50), "p99_ms": percentile(took_ms, 99), "max_ms": max(took_ms)}


def outcome(took_ms: Sequence[float], plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a kept run holds: commit, date, settings, machine, each reading in its order, percentiles and goals."""
    found = figures(took_ms)
    goals = [Goal(f"≤ {GOAL_MS:g} ms", name, f"{found[name]:.1f} ms", found[name] <= GOAL_MS) for name in ("p50_ms", "p99_ms")]
    return {
        "commit": machine.revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "goals": [goal._asdict() for goal in goals],
        "plan": dict(plan),
        "machine": machine.facts(folder) | {"commit_ms": machine.commit_ms(folder)},
        "versions": machine.versions(),
        **found,
        "took_ms": list(took_ms),
    }
