"""Tells which deliveries a Celery worker that is ending will not run any more; imports nothing of Celery."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_STATE = "celery.worker.state"


def request_of(message: Any) -> Any:
    """Return what Celery's worker made of a message that it has just been handed; None anywhere else."""
    state: Any = sys.modules.get(_STATE)
    request = state.requests.get(message.headers.get("id")) if state is not None else None
    return request if request is not None and request.message is message else None


def is_ending() -> bool:
    """Whether this process is a worker that was told to end."""
    state: Any = sys.modules.get(_STATE)
    if state is None:
        return False
    marks = (state.should_stop, state.should_terminate)
    # Told by remote control there is no mark but the exception that ends it: Celery stops its consumers while it handles that.
    return any(mark is not None and mark is not False for mark in marks) or isinstance(sys.exc_info()[1], SystemExit)


def never_run(pool: Any) -> Callable[[Any], bool]:
    """Return what tells of each request in turn, oldest first, whether it will not run in a worker that is ending; its threads begin nothing more.

    A prefork worker gives its pool no more than it has processes. What waits for a free process, for its time or for its rate is
    forgotten when the worker is told to end. What else a pool was given is left alone: it runs, or has run and its ack is under way.
    """
    active = sys.modules[_STATE].active_requests
    may_begin = _close_threads(pool, active)

    def never_runs(request: Any) -> bool:
        nonlocal may_begin
        if request is None:
            return False
        # Celery sets the attribute as it hands over; a solo pool, which is the caller itself, has accepted before that.
        if request._apply_result is None:
            return request not in active
        if may_begin is None or request.time_start is not None:
            return False
        may_begin -= 1
        return may_begin < 0

    return never_runs


def _close_threads(pool: Any, active: Any) -> int | None:
    # How many of what a pool of threads was given may begin all the same, None for another pool. It is given all that comes, and closed it forgets
    # what waits, as it would a little later. But a thread that runs nothing may just have taken the oldest, and have had no time to say so.
    executor = getattr(pool, "executor", None)
    if not isinstance(executor, ThreadPoolExecutor):
        return None
    executor.shutdown(wait=False, cancel_futures=True)
    return max(0, int(pool.limit) - len(active))
