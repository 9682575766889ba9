"""The soak in its short form: five thousand messages; `make soak-broker` is the long one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


def test_memory_stays_flat_over_five_thousand_messages(tell: Callable[[str], None], tmp_path: Path) -> None:
    # Large bodies, so that keeping them would show in so few messages.
    command = [sys.executable, "-m", "benchmarks.soak", "--messages", "5000", "--body-bytes", "10000", "--json", str(tmp_path / "kept.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert (kept["held"], kept["doubled"], kept["tasks_ran"]) == (True, 0, kept["tasks_sent"])
    assert len(kept["samples"]) > 5
    assert {growth["part"] for growth in kept["growths"]} == {"publisher", "consumer", "worker", "broker"}
    tell("; ".join(line for line in done.stdout.splitlines() if "after the warm-up" in line))
