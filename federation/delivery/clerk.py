"""A thread for what a worker's event loop must not wait for, such as SQL and receipts; does one thing after another, in order."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

logger = logging.getLogger(__name__)


class Clerk:
    """Takes work from any thread; its own is a daemon, so that work that waits for a dead server does not hold up the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[..., object], *args: Any) -> None:
        """Have this done soon; returns at once."""
        self._waiting.put(partial(work, *args))
        with self._starting:
            if self._thread is None:
                # Not before: a pool forks its first children after the consumer is made.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def finish(self, timeout_s: float) -> bool:
        """Wait until all is done that was asked for so far; False if it takes longer than that."""
        if self._thread is None:
            return True
        done = threading.Event()
        self.do(done.set)
        return done.wait(timeout_s)

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:  # the thread must live, or nothing would be done any more
                logger.exception("clerk.failed", extra={"clerk": self._name})
