"""What SIGINT, SIGTERM and SIGHUP do to a command: the first raises KeyboardInterrupt, further ones only count, so that none disturbs the end."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self


def signals() -> list[signal.Signals]:
    """Return the signals that ask a command to end; not SIGHUP where `nohup` said that a closed terminal is no reason."""
    asking = [signal.SIGINT, signal.SIGTERM]
    return asking if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*asking, signal.SIGHUP]


class Interrupts:
    """While it is entered, the first of the signals raises KeyboardInterrupt in the main thread; `count` says how many came.

    Once interrupted, the process has nothing to do but to end: from then on it ignores these signals for good.
    """

    def __init__(self) -> None:
        self.count = 0
        self._raised = False
        self._put_off = 0
        self._former: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        self._former = {signum: signal.signal(signum, self._note) for signum in signals()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, signal.SIG_IGN if self._raised else handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        self._raise_once()

    def _raise_once(self) -> None:
        # Decided here and not where the exception is caught: between the two a second signal could come.
        if self.count and not self._raised and not self._put_off:
            self._raised = True
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """Let a signal raise at the end of the block.

        For the start of a process: interrupted between its fork and the return of its pid, nobody would know of it.
        """
        self._put_off += 1
        try:
            yield
        finally:
            self._put_off -= 1
        self._raise_once()
