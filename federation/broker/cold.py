"""Ends a Celery worker whose cold shutdown interrupted the transport; imports nothing of Celery.

Celery does the work of that shutdown in the handler of the signal, and what it interrupted goes on only afterwards. Locks that were held there
stay held meanwhile: the transport's own, and that of a pool of threads which was just being handed a task. So nothing may be waited for.
What is left, with threads, is a signal in the very moment in which Python starts a thread of the pool: that thread never ends then; or in which
a lock of `logging` was just taken: threads that want to log wait for it for ever.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Set
from types import FrameType
from typing import Any

from federation.broker.celery_worker import kills_what_runs, runs_in_the_loop
from federation.broker.connection import StompConnection
from federation.broker.consumer import Consumer
from federation.broker.errors import ConnectionLost
from federation.broker.qos import QoS

_HANDLER = ("celery.apps.worker", "_handle_request")
_OURS = __name__.rpartition(".")[0] + "."
_TASKS = "celery.app.trace"
_PREFORK = ("celery.concurrency.prefork", "celery.concurrency.asynpool", "billiard.pool")
_LOOK_S = 0.05
# What a child may take to end by itself.
_GRACE_S = 3.0


def interrupted() -> frozenset[str] | None:
    """Return the modules whose code a cold shutdown has interrupted, None if this is not called by its handler."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) != _HANDLER:
        frame = frame.f_back
    if frame is None:
        return None
    modules = set()
    while (frame := frame.f_back) is not None:
        modules.add(str(frame.f_globals.get("__name__")))
    return frozenset(modules)


def end(modules: Set[str], consumer: Consumer, qos: QoS, wire: StompConnection) -> None:
    """Do what a consumer's end takes of a worker that is told to end at once, which interrupted these modules.

    Raises WorkerTerminate of Celery, upon which its worker ends, and what is not acknowledged goes back to its queue, if the transport's work was
    interrupted, what that had handed a message to, a prefork pool's, or a task of a solo pool. Such a task ends with it; Celery would have it fail,
    and acknowledge it.
    """
    if kills_what_runs(consumer.pool):
        qos.withhold()
    broken = StompConnection.__module__ in modules
    if broken:
        # Perhaps half a frame is written, or read and not kept.
        wire.give_up(ConnectionLost("the worker was told to end at once, in the middle of a frame"))
    is_prefork = type(consumer.pool).__module__ in _PREFORK
    at_work = not modules.isdisjoint(_PREFORK) or any(module.startswith(_OURS) for module in modules)
    if broken or (_TASKS in modules if runs_in_the_loop(consumer.pool) else at_work):
        # A pool that has stopped has none any more.
        if is_prefork and (children := getattr(consumer.pool._pool, "_pool", None)):
            threading.Thread(target=_press, args=(list(children),), name="broker-cold-shutdown", daemon=True).start()
        raise sys.modules["celery.exceptions"].WorkerTerminate(1)
    if is_prefork:
        _cancel_what_begins([delivery.request for delivery in qos.where(consumer.has)], consumer.pool, wire)


def _press(children: list[Any]) -> None:
    # One that has been told to end waits half a minute for the worker to read its last result, which nobody does any more. Told again it ends.
    while any(child._popen is not None and child._popen.returncode is None for child in children):
        time.sleep(_GRACE_S)
        for child in children:
            with contextlib.suppress(OSError):
                child.terminate()


def _cancel_what_begins(requests: Iterable[Any], pool: Any, wire: StompConnection) -> None:
    # Celery cancels what it knows to run, and then waits for its children. But one that has just been given a task runs it without Celery knowing,
    # as long as that has not read what the child said.
    unheard = [request for request in requests if request is not None and request._apply_result is not None and request.time_start is None]
    if unheard:
        threading.Thread(target=_cancel, args=(unheard, pool, wire), name="broker-cold-shutdown", daemon=True).start()


def _cancel(unheard: list[Any], pool: Any, wire: StompConnection) -> None:
    while unheard and not wire.ended.wait(_LOOK_S):
        for request in [request for request in unheard if request.time_start is not None]:
            unheard.remove(request)
            late = bool(request.task.acks_late)
            if not (late and request.acknowledged):
                request.cancel(pool, emit_retry=not late)
