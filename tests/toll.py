"""What tests of faults tell: a plugin that prints it after all tests, with a table of what each fault cost, and writes that as JSON if asked."""

import json
import os
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks import machine

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
    # Why the fault did not happen at all, where it did not.
    not_run: str = ""
    duration_s: float = 0.0
    # Of a soak: how long there was work and faults came.
    lasted_s: float | None = None
    # No test fails on a clock; where there is a goal in seconds, this says whether it was reached.
    in_time: bool = True

    def happened(self, times: int, *, work: int, lost: int = 0, doubled: int = 0) -> None:
        """Say how often the fault happened, and of how much work how much was lost or had its effect twice."""
        self.times, self.work, self.lost, self.doubled = times, work, lost, doubled


@pytest.fixture
def toll(request: pytest.FixtureRequest) -> Toll:
    """What the fault that the test is marked with costs."""
    made = _toll_of(request.node)
    assert made is not None, "the test has no mark that names its fault"
    return made


_OF_TEST = pytest.StashKey[Toll]()


def _toll_of(item: pytest.Item) -> Toll | None:
    """Return the row of a test, or None where it has no fault; a row that is there cannot vanish with a skipped test."""
    mark = item.get_closest_marker("fault")
    if mark is not None and _OF_TEST not in item.stash:
        item.stash[_OF_TEST] = Toll(mark.args[0], item.name)
        item.config.stash.setdefault(TOLLS, []).append(item.stash[_OF_TEST])
    return item.stash.get(_OF_TEST, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Note whether the test with a fault has passed and reached its goals."""
    report = yield
    toll = _toll_of(item)
    if toll is not None:
        toll.duration_s = round(toll.duration_s + report.duration, 1)
        if report.skipped:
            # A path, a line, and the reason.
            toll.not_run = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed and call.when == "setup":
            toll.not_run = "what it needs could not be made ready"
        elif call.when == "call":
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
        if toll.not_run:
            table.add_row(f"{toll.fault}: not run, {toll.not_run}", "0", "NO", *"–––––")
            continue
        recovery = (f"{median(toll.recovery_s):.1f} s", f"{max(toll.recovery_s):.1f} s") if toll.recovery_s else ("–", "–")
        told = (toll.times, "yes" if toll.held else "NO", toll.work, toll.lost, toll.doubled)
        table.add_row(toll.fault, *map(str, told), *recovery)
    Console(width=120).print(table)
    if KEPT in os.environ:
        # With each, so that a test that was repeated can take the place of its former row.
        about = {"commit": machine.revision(), "date": datetime.now(UTC).date().isoformat()}
        kept = {
            **about,
            # Processes are killed, not the machine: what was written and not yet forced to the disk is still there.
            "plan": {"fsync": False},
            "machine": machine.facts(Path(tempfile.gettempdir())),
            "versions": machine.versions(),
            "faults": [asdict(toll) | about for toll in tolls],
        }
        Path(os.environ[KEPT]).write_text(json.dumps(kept, indent=1) + "\n")
