"""Ends a Celery worker whose cold shutdown interrupted the transport; imports nothing of Celery.

Celery does the work of that shutdown in the handler of the signal, and what it interrupted goes on only afterwards. Locks that were held there
stay held meanwhile: the transport's own, and that of a pool of threads which was just being handed a task. So nothing may be waited for.
What is left is a signal in the very moment in which Python starts a thread of the pool: that thread never ends then.
"""

import sys
from collections.abc import Set
from types import FrameType

from federation.broker.connection import StompConnection
from federation.broker.errors import ConnectionLost

_HANDLER = ("celery.apps.worker", "_handle_request")
_OURS = __name__.rpartition(".")[0] + "."
_TASKS = "celery.app.trace"


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


def unwind(modules: Set[str], wire: StompConnection, *, in_the_loop: bool) -> None:
    """Unwind what was interrupted, if that was the transport's work, what that had handed a message to, or, `in_the_loop`, a task itself.

    Raises WorkerTerminate of Celery, upon which its worker ends, and what is not acknowledged goes back to its queue. A task of a solo pool ends
    with it; Celery would have it fail, and acknowledge it.
    """
    broken = StompConnection.__module__ in modules
    if broken:
        # Perhaps half a frame is written, or read and not kept.
        wire.give_up(ConnectionLost("the worker was told to end at once, in the middle of a frame"))
    if broken or (_TASKS in modules if in_the_loop else any(module.startswith(_OURS) for module in modules)):
        raise sys.modules["celery.exceptions"].WorkerTerminate(1)
