"""A terminal that takes nothing more, or is gone, holds up nobody."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from federation.cli.display import Display
from federation.local.state import Phase, View
with Display() as display:
    display.say("The federation is running.")
    for number in range(3):
        display.show(View(pid=number, born=None, phase=Phase.RUNNING, failure=None, parts=[]))
open(sys.argv[1], "w").write("went on")
"""


def fill(terminal: int) -> None:
    """Write until the terminal takes nothing more."""
    os.set_blocking(terminal, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(terminal, b"x" * 100)
    os.set_blocking(terminal, True)


def run(terminal: int, told: Path) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM, told], stdin=subprocess.DEVNULL, stdout=terminal, check=False, timeout=120).returncode


def test_terminal_that_stands_still_is_left(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fill(theirs)
    assert run(theirs, tmp_path / "told") == 0
    os.close(ours)
    os.close(theirs)


def test_terminal_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    assert run(theirs, tmp_path / "told") == 0
    assert (tmp_path / "told").read_text() == "went on"
    os.close(theirs)


def test_terminal_is_told(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    assert run(theirs, tmp_path / "told") == 0
    assert b"The federation is running." in os.read(ours, 4096)
    os.close(ours)
    os.close(theirs)
