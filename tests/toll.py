"""What tests of faults tell: a plugin that prints it after all tests, with a table of what each fault cost, and writes that as JSON if asked."""

import json
import os
import random
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

# A file for the table as JSON.
KEPT = "FAULTS_JSON"
TOLLS = pytest.StashKey[list["Toll"]]()
TOLD = pytest.StashKey[list[str]]()


@dataclass(slots=True)
class Toll:
    """One fault, how often it happened, to how much work, what that cost, and the seconds until all that was under way had ended."""

    fault: str
    test: str
    times: int = 0
    work: int = 0
    lost: int = 0
    doubled: int = 0
    recovery_s: list[float] = field(default_factory=list)
    held: bool = False
    note: str = ""
    # No test fails on a clock; where there is a goal in seconds, this says whether it was reached.
    in_time: bool = True

    def happened(self, times: int, *, work: int, lost: int = 0, doubled: int = 0) -> None:
        """Say how often the fault happened, and of how much work how much was lost or had its effect twice."""
        self.times, self.work, self.lost, self.doubled = times, work, lost, doubled


@pytest.fixture
def toll(request: pytest.FixtureRequest) -> Toll:
    """What the fault that the test is marked with costs."""
    mark = request.node.get_closest_marker("fault")
    made = Toll(mark.args[0], request.node.name)
    request.config.stash.setdefault(TOLLS, []).append(made)
    request.node.stash[_OF_TEST] = made
    return made


_OF_TEST = pytest.StashKey[Toll]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Note whether the test with a fault has passed and reached its goals."""
    report = yield
    toll = item.stash.get(_OF_TEST, None)
    if toll is not None and call.when == "call":
        toll.held = report.passed and toll.lost == toll.doubled == 0 and toll.in_time
    return report


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something that is printed after all tests, whether they passed or not."""
    told = request.config.stash.setdefault(TOLD, [])
    return lambda text: told.append(f"{request.node.name}: {text}")


@pytest.fixture
def seed(tell: Callable[[str], None]) -> str:
    """What all chance of a test hangs on; FAULTS_SEED repeats one."""
    seed = os.environ.get("FAULTS_SEED") or secrets.token_hex(4)
    tell(f"FAULTS_SEED={seed}")
    return seed


@pytest.fixture
def dice(seed: str) -> random.Random:
    return random.Random(seed)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what was told, and the table."""
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)
    tolls = config.stash.get(TOLLS, [])
    if not tolls:
        return
    table = Table("fault", "times", "held", "work", "lost", "doubled", "recovery p50", "max", title="Faults")
    for toll in tolls:
        recovery = (f"{median(toll.recovery_s):.1f} s", f"{max(toll.recovery_s):.1f} s") if toll.recovery_s else ("–", "–")
        told = (toll.times, "yes" if toll.held else "NO", toll.work, toll.lost, toll.doubled)
        table.add_row(toll.fault, *map(str, told), *recovery)
    Console(width=120).print(table)
    if KEPT in os.environ:
        # With each, so that a test that was repeated can take the place of its former row.
        commit = _commit()
        kept = {"cores": len(os.sched_getaffinity(0)), "faults": [asdict(toll) | {"commit": commit} for toll in tolls]}
        Path(os.environ[KEPT]).write_text(json.dumps(kept, indent=1) + "\n")


def _commit() -> str:
    return subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()
