"""The time that executions may take on a pool that cannot end them: over it they have failed, and what they still do has no effect.

A pool of processes ends by itself what is over its time; neither a thread nor the main thread can be ended.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from billiard import current_process
from celery.exceptions import Ignore

from federation.errors import PermanentError

logger = logging.getLogger(__name__)

LOOK_S = 0.5


class OutOfTime(PermanentError):
    """The execution ran longer than its time limit: what it still wants to do has no effect."""


class Late(Ignore):
    """A run came to its end after its time; its failure is stored already."""


class Run:
    """One run of one delivery; whether it ended in time or not is decided once."""

    def __init__(self, limit_s: float, fail: Callable[[float], None]) -> None:
        self._until = time.monotonic() + limit_s
        self._limit_s, self._fail = limit_s, fail
        # Held while it commits: what commits has done so in time.
        self._deciding = threading.Lock()
        self._ended = self._told = False
        self.is_over = False

    def require_time(self) -> None:
        """Pass unless it is over its time. Raises OutOfTime."""
        if self.is_over:
            raise OutOfTime(f"it ran longer than its time limit of {self._limit_s:g} s")

    @contextmanager
    def committing(self) -> Iterator[Callable[[], None]]:
        """Yield what is to be called right before a commit: until the block ends it is not over its time then. That call raises OutOfTime."""
        held = False

        def hold() -> None:
            nonlocal held
            held = self._deciding.acquire()
            self.require_time()

        try:
            yield hold
        finally:
            if held:
                self._deciding.release()

    def end(self) -> None:
        """It has come to its end. Raises Late if that is too late."""
        with self._deciding:
            if self.is_over:
                raise Late("it ran longer than its time limit")
            self._ended = True

    def look(self) -> None:
        """Let it fail if it is over its time; where that cannot be stored now, the next look tries again."""
        if not self.is_over:
            if time.monotonic() < self._until or not self._deciding.acquire(blocking=False):
                return
            self.is_over = not self._ended
            self._deciding.release()
        if self.is_over and not self._told:
            self._fail(self._limit_s)
            self._told = True


_current: ContextVar[Run | None] = ContextVar("run", default=None)
_runs: set[Run] = set()
_changing = threading.Lock()
_any_runs = threading.Event()
_watcher: threading.Thread | None = None


def current() -> Run | None:
    """Return the run that this thread is in, if it is watched."""
    return _current.get()


def hung() -> int:
    """Return how many runs of this process are over their time and hold their places all the same."""
    with _changing:
        return sum(run.is_over for run in _runs)


@contextmanager
def limited(limit_s: float | None, fail: Callable[[float], None]) -> Iterator[None]:
    """Watch what the block does; `fail` is called from another thread when it is over its time. Raises Late if the block ended after that."""
    if not limit_s or current_process().name != "MainProcess":
        yield
        return
    run = Run(limit_s, fail)
    _watch(run)
    token = _current.set(run)
    try:
        try:
            yield
        except Exception:
            run.end()
            raise
        run.end()
    finally:
        _current.reset(token)
        _forget(run)


def _watch(run: Run) -> None:
    global _watcher  # noqa: PLW0603 - one thread a process, when it is first needed
    with _changing:
        _runs.add(run)
        _any_runs.set()
        if _watcher is None:
            _watcher = threading.Thread(target=_look_again_and_again, name="time-limits", daemon=True)
            _watcher.start()


def _forget(run: Run) -> None:
    with _changing:
        _runs.discard(run)
        if not _runs:
            _any_runs.clear()


def _look_again_and_again() -> None:
    while True:
        _any_runs.wait()
        time.sleep(LOOK_S)
        with _changing:
            runs = list(_runs)
        for run in runs:
            try:
                run.look()
            except Exception:  # whoever watches must go on; the next look tries again
                logger.exception("execution.overtime_unrecorded")
