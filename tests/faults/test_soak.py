"""The soak in its short form: five thousand messages; `make soak-broker` is the long one."""

import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.long


def test_memory_stays_flat_over_five_thousand_messages(tell: Callable[[str], None]) -> None:
    # Large bodies, so that keeping them would show in so few messages.
    command = [sys.executable, "-m", "benchmarks.soak", "--messages", "5000", "--body-bytes", "10000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    tell("; ".join(done.stdout.splitlines()[-5:]))
