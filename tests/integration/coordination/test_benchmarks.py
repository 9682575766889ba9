"""The benchmarks of coordination in their short forms: what is measured comes about, and nothing is lost, doubled or held by two."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.coordination.goals import FLOOR, OPERATIONS, OURS

pytestmark = pytest.mark.timeout(900)

SECONDS = 10


def run(tmp_path: Path, module: str, *options: str) -> dict[str, Any]:
    kept = tmp_path / "kept.json"
    done = subprocess.run([sys.executable, "-m", module, *options, "--json", str(kept)], capture_output=True, text=True, check=False, timeout=840)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(kept.read_text())
    return told


def test_each_operation_is_measured_beside_the_floor(tmp_path: Path) -> None:
    kept = run(tmp_path, "benchmarks.coordination", "--quick")
    measured = {(reading["table"], reading["measure"], reading["peer"]) for reading in kept["readings"]}
    tables = ("2 agents at once",)
    assert measured == {
        (table, f"{name}_p{percent}_ms", peer) for table in tables for name in OPERATIONS for percent in (50, 99) for peer in (OURS, FLOOR)
    }
    assert len(kept["goals"]) == len(tables) * len(OPERATIONS) * 2
    assert all(reading["value"] > 0 for reading in kept["readings"])


def test_many_agents_lose_and_double_nothing(tmp_path: Path, tell: Callable[[str], None]) -> None:
    kept = run(tmp_path, "benchmarks.coordination.steady", "--agents", "20", "--rate", "10", "--seconds", str(SECONDS))
    assert (kept["errors"], kept["flaws"]) == ([], [])
    called = {
        *("federation_send", "federation_update_state", "federation_claim", "federation_release"),
        *("federation_delegate", "federation_claim_task", "federation_complete_task"),
    }
    assert called <= kept["took"].keys()
    assert {growth["part"] for growth in kept["growths"]} == {"door", "bench", "beat"}
    tell(f"{kept['calls']} calls by 20 agents in {SECONDS} s")
