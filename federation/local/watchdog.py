"""Ends process groups when the supervisor is gone; a script of its own (`python -I -S`) so that it stays small; imports nothing of ours.

Standard input: `+ <group> <signal>` to guard a group, `- <group>` to let it go. At the end of input each guarded group
gets its signal, and after a grace SIGKILL.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 8.0


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _end(groups: dict[int, int]) -> None:
    for group, signum in groups.items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signum)
    deadline = time.monotonic() + GRACE_S
    while any(_exists(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.1)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def watch(lines: Iterable[str]) -> None:
    """Follow the supervisor's orders until it is gone, then end what is still guarded."""
    groups: dict[int, int] = {}
    for line in lines:
        sign, *numbers = line.split()
        if sign == "+":
            groups[int(numbers[0])] = int(numbers[1])
        else:
            groups.pop(int(numbers[0]), None)
    _end(groups)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watch(sys.stdin)
