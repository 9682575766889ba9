"""Ends a Celery worker whose cold shutdown interrupted the transport; imports nothing of Celery.

Celery does the work of that shutdown in the handler of the signal, and what it interrupted goes on only afterwards. Locks that were held there
stay held meanwhile: the transport's own, and that of a pool of threads which was just being handed a task. So nothing may be waited for.
What is left is a signal in the very moment in which Python starts a thread of the pool: that thread never ends then.
"""

import sys
from types import FrameType

from federation.broker.connection import StompConnection
from federation.broker.errors import ConnectionLost

_HANDLER = ("celery.apps.worker", "_handle_request")
_OURS = __name__.rpartition(".")[0] + "."


def end_if_interrupted(wire: StompConnection, *, in_the_loop: bool) -> None:
    """Unwind what a cold shutdown interrupted, if that was the transport's work or what that had handed a message to.

    With `in_the_loop` a message is handed to the task itself, which holds nothing of ours and is left to end.
    Raises WorkerTerminate of Celery, upon which its worker ends, and what is not acknowledged goes back to its queue.
    """
    interrupted = _interrupted()
    broken = StompConnection.__module__ in interrupted
    if broken or (not in_the_loop and any(module.startswith(_OURS) for module in interrupted)):
        if broken:
            # Perhaps half a frame is written, or read and not kept.
            wire.give_up(ConnectionLost("the worker was told to end at once, in the middle of a frame"))
        raise sys.modules["celery.exceptions"].WorkerTerminate(1)


def _interrupted() -> set[str]:
    # The modules of the frames below the handler's, none if this is not called from it.
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) != _HANDLER:
        frame = frame.f_back
    modules = set()
    while frame is not None and (frame := frame.f_back) is not None:
        modules.add(str(frame.f_globals.get("__name__")))
    return modules
