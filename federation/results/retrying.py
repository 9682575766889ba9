"""Trying again while PostgreSQL is away or lets nobody in, told once a minute; a worker that is told to end hands its work back instead."""

import logging
import math
import mmap
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.process import current_process
from celery import signals
from celery.exceptions import Reject
from celery.utils.time import get_exponential_backoff_interval

from federation.results.joining import JoiningBackend

log = logging.getLogger(__name__)

SAID_EVERY_S = 60.0


class RetryingBackend(JoiningBackend):
    """Celery's own retries, but for a log without tracebacks and for an end: Celery's go on in a worker that waits for them to end."""

    always_retry: bool
    max_retries: float
    base_sleep_between_retries_ms: int
    max_sleep_between_retries_ms: int
    _sleep: Callable[[float], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Shared with the processes of a pool, which are forked from here and never told that the worker ends.
        self._ends = mmap.mmap(-1, 1)
        self._said_at = -math.inf
        _alive.add(self)

    def told_to_end(self) -> None:
        """Have whoever retries here, or in a process forked from here, give up."""
        self._ends[0] = 1

    def _ensure_retryable(
        self,
        func: Callable[..., Any],
        *args: Any,
        fallback_exc: Callable[[str | None], Exception] | None = None,
        fallback_msg: str | None = None,
        max_retries: float | None = None,
        **kwargs: Any,
    ) -> Any:
        limit = self.max_retries if max_retries is None else max_retries
        retries = 0
        while True:
            try:
                answer = func(*args, **kwargs)
            except Exception as error:  # which of them passes by itself says exception_safe_to_retry
                if not (self.always_retry and self.exception_safe_to_retry(error)):
                    raise
                if retries >= limit:
                    if fallback_exc is not None:
                        raise fallback_exc(fallback_msg) from error
                    raise
                self._give_up_at_the_end(func, error)
                self._say(func, error)
            else:
                if retries:
                    self._said_at = -math.inf
                return answer
            retries += 1
            delay_ms = get_exponential_backoff_interval(self.base_sleep_between_retries_ms, retries, self.max_sleep_between_retries_ms, True)
            self._sleep(delay_ms / 1000)

    def _give_up_at_the_end(self, func: Callable[..., Any], error: Exception) -> None:
        state = sys.modules.get("celery.worker.state")
        # Zero is the code that a worker ends with.
        told = state is not None and any(mark is not None and mark is not False for mark in (state.should_stop, state.should_terminate))
        if not (told or self._ends[0]):
            return
        log.warning("results.handed_back operation=%s error=%s", func.__name__, _in_one_line(error))
        if current_process().name != "MainProcess" or threading.current_thread() is not threading.main_thread():
            # Celery acknowledges whatever else is raised here, and the work would be lost with its result.
            raise Reject("told to end before PostgreSQL could be asked", requeue=True) from error
        # This is the worker's own loop, or a solo pool in it: it ends, and what it has not acknowledged goes back with its connection.
        if state is not None and not self._ends[0]:
            state.maybe_shutdown()
        raise error

    def _say(self, func: Callable[..., Any], error: Exception) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY_S:
            self._said_at = now
            log.warning("results.retrying operation=%s error=%s", func.__name__, _in_one_line(error))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_alive: "weakref.WeakSet[RetryingBackend]" = weakref.WeakSet()


def _close(closing: Callable[[], None] | None) -> None:
    for backend in list(_alive):
        backend.told_to_end()
    if closing is not None:
        closing()


@signals.worker_ready.connect
def _tell_of_the_end(sender: Any, **kwargs: Any) -> None:
    # A signal that ends the worker is told by worker_shutting_down, and an end by remote control by nothing else than this.
    blueprint = sender.controller.blueprint
    # Told again after each loss of the broker.
    if not (isinstance(blueprint.on_close, partial) and blueprint.on_close.func is _close):
        blueprint.on_close = partial(_close, blueprint.on_close)
