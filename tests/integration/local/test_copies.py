"""Forks of one program: what is killed comes again, what fails ends all, and nobody outlives the parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from federation.local import children

COUNT = 3
# Not `signal.pause`, which sleeps through a signal that comes just before it.
SLEEPS = "while True: time.sleep(0.05)"
PROGRAM = """
import os, signal, sys, time
from federation.local.copies import multiply
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number = multiply(3)
{before}
os.write(1, f"{{number}} {{os.getpid()}}\\n".encode())
{then}
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program of several forks; it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def program(then: str = SLEEPS, before: str = "") -> "subprocess.Popen[str]":
        one = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(then=then, before=before)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(one)
        return one

    yield program
    for one in started:
        one.kill()
        one.communicate()


def said(program: "subprocess.Popen[str]") -> tuple[int, int]:
    """Return the number and the pid that the next fork says."""
    assert program.stdout is not None
    number, pid = program.stdout.readline().split()
    return int(number), int(pid)


def alive(pids: dict[int, int]) -> list[int]:
    return sorted(number for number, pid in pids.items() if children.is_alive(pid))


def test_each_fork_has_a_number(start: Start) -> None:
    program = start()
    pids = dict(said(program) for _ in range(COUNT))
    assert sorted(pids) == [0, 1, 2]
    assert len({program.pid, *pids.values()}) == COUNT + 1


def test_what_is_killed_comes_again_and_the_others_go_on(start: Start) -> None:
    program = start()
    pids = dict(said(program) for _ in range(COUNT))
    for _ in range(2):
        os.kill(pids[1], signal.SIGKILL)
        again, pid = said(program)
        assert again == 1
        assert pid != pids[1]
        pids[1] = pid
    assert alive(pids) == [0, 1, 2]
    assert program.poll() is None


def test_what_ends_by_itself_ends_all_with_its_status(start: Start) -> None:
    program = start("while number != 2: time.sleep(0.05)\ntime.sleep(0.3)\nsys.exit(7)")
    pids = dict(said(program) for _ in range(COUNT))
    assert program.wait(20) == 7
    assert alive(pids) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_ends_the_parent_last(start: Start, signum: signal.Signals) -> None:
    program = start()
    pids = dict(said(program) for _ in range(COUNT))
    program.send_signal(signum)
    # The program's own handler of SIGTERM is as good as Python's of SIGINT, which raises.
    assert program.wait(20) == {signal.SIGTERM: 0}.get(signum, -signum)
    assert alive(pids) == []


def test_a_signal_waits_for_who_takes_his_time(start: Start) -> None:
    program = start(before="signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), os.write(1, b'done %d\\n' % number), os._exit(0)))")
    assert program.stdout is not None
    for _ in range(COUNT):
        said(program)
    program.terminate()
    assert program.wait(20) == 0
    assert sorted(program.stdout.read().split("\n")[:COUNT]) == ["done 0", "done 1", "done 2"]


def test_nobody_outlives_the_parent(start: Start) -> None:
    program = start()
    pids = dict(said(program) for _ in range(COUNT))
    program.kill()
    deadline = time.monotonic() + 20
    while left := alive(pids):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
