"""Tells which deliveries a Celery worker that is ending will not run any more; imports nothing of Celery."""

import sys
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


def never_runs(request: Any) -> bool:
    """Whether a request has not gone to the pool; in a worker that is ending it will not.

    A prefork worker gives its pool no more than it has processes. What waits for a free process, for its time or for its rate is
    forgotten when the worker is told to end. What a pool was given is left alone: it runs, or has run and its ack is under way.
    """
    if request is None:
        return False
    # Celery sets the attribute as it hands over; a solo pool, which is the caller itself, has accepted before that.
    return request._apply_result is None and request not in sys.modules[_STATE].active_requests
