"""The supervisor's end of the watchdog: tells it which process groups die with us; starts a new one when it is gone."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_SCRIPT = Path(__file__).with_name("watchdog.py")


class Guard:
    """Guards process groups for as long as this process lives."""

    def __init__(self) -> None:
        self._groups: dict[int, int] = {}
        self._watchdog = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )

    @property
    def pid(self) -> int:
        """The watchdog's pid."""
        return self._watchdog.pid

    def add(self, group: int, signum: int) -> None:
        """Guard a group: should we die, it gets the signal."""
        self._groups[group] = signum
        self._tell(f"+ {group} {signum}")

    def remove(self, group: int) -> None:
        """Let a group go that has ended."""
        if self._groups.pop(group, None) is not None:
            self._tell(f"- {group}")

    def _tell(self, order: str) -> None:
        assert self._watchdog.stdin is not None
        try:
            self._watchdog.stdin.write(order + "\n")
            self._watchdog.stdin.flush()
        except BrokenPipeError:
            self._watchdog.wait()
            self._watchdog = self._start()
            for group, signum in self._groups.items():
                self._tell(f"+ {group} {signum}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait()
