"""The table of faults keeps a row of each fault, also of one that could not be done."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = """
import pytest

@pytest.fixture
def disk():
    pytest.skip("no disk can be mounted")

@pytest.fixture
def server():
    raise OSError("no port is free")

@pytest.mark.fault("disk full")
def test_disk(disk, toll):
    pass

@pytest.mark.fault("server killed")
def test_server(server, toll):
    pass

@pytest.mark.fault("worker killed")
def test_worker(toll):
    toll.happened(3, work=5)
    toll.recovery_s.append(0.5)
"""


def test_a_fault_that_is_skipped_or_has_nothing_to_work_on_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "test_faults.py").write_text(FAULTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault(name)\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.toll", "-p", "no:cacheprovider", str(tmp_path)]
    surroundings = os.environ | {"FAULTS_JSON": str(tmp_path / "kept.json"), "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    kept = json.loads((tmp_path / "kept.json").read_text())
    rows = {row["fault"]: (row["times"], row["held"], row["not_run"]) for row in kept["faults"]}
    assert rows == {
        "disk full": (0, False, "Skipped: no disk can be mounted"),
        "server killed": (0, False, "what it needs could not be made ready"),
        "worker killed": (3, True, ""),
    }
    assert "not run" in done.stdout
    assert all(row["duration_s"] >= 0 for row in kept["faults"])
    assert {"commit", "date", "machine", "versions"} <= kept.keys()
