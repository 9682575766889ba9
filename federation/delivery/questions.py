"""A worker's answers to what any part may ask; a question changes nothing but what the database has decided already."""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from celery import bootsteps
from celery.platforms import signals
from celery.utils.nodenames import nodesplit
from celery.worker import state as worker_state
from celery.worker.consumer.tasks import Tasks
from celery.worker.control import Panel
from celery.worker.pidbox import Pidbox
from kombu.pidbox import Node

from federation.delivery import ending
from federation.delivery.clerk import Clerk
from federation.delivery.control import LOOK_FOR_CANCELLED, OF_CELERY
from federation.delivery.runtime import transactions
from federation.errors import TransientError
from federation.services import executions

logger = logging.getLogger(__name__)

_clerk = Clerk("cancellations")


def _hello(state: Any, from_node: str, **_: Any) -> Any:
    # A worker that starts asks what is revoked; that it calls something revoked itself is a command, and not taken from a question.
    return Panel.data["hello"](state, from_node)


def _look_for_cancelled(state: Any, ids: Iterable[Any] = (), **_: Any) -> None:
    """End those of these executions that are here and that the database says were cancelled: whoever asks decides nothing."""
    here = [one for one in map(str, ids) if one in worker_state.requests]
    if here:
        # Its event loop must not wait for SQL.
        _clerk.do(_end_cancelled, state.consumer, here)


ANSWERS: Mapping[str, Callable[..., Any]] = {
    **{name: Panel.data[name] for name in OF_CELERY},
    "hello": _hello,
    LOOK_FOR_CANCELLED: _look_for_cancelled,
}


def _end_cancelled(consumer: Any, ids: list[str]) -> None:
    known = [one for one in map(_uuid, ids) if one is not None]
    try:
        with transactions().begin(f"node:{nodesplit(consumer.hostname)[0]}") as session:
            cancelled = executions.cancelled_among(session, known)
    except TransientError as error:
        # It learns at its next effect, or before it begins, that it is not wanted.
        logger.warning("executions.not_looked_up reason=%s", error)
        return
    if cancelled:
        consumer.call_soon(_end, consumer, [str(one) for one in cancelled])


def _end(consumer: Any, ids: list[str]) -> None:
    worker_state.revoked.update(ids)
    for one in ids:
        if (request := worker_state.requests.get(one)) is not None:
            # Threads cannot be terminated, but what they wait for can be ended.
            ending.end(one)
            request.terminate(consumer.pool, signal=signals.signum("TERM"))


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class _Answering(Node):
    """Answers where who asks waits for answers, and nowhere else: a worker may write where who asks may not."""

    def dispatch(self, method: str, arguments: dict[str, Any] | None = None, reply_to: Any = None, ticket: str | None = None, **kwargs: Any) -> Any:
        if reply_to is None or self._waits_for_answers(reply_to):
            return super().dispatch(method, arguments, reply_to, ticket, **kwargs)
        logger.warning("questions.not_answered: nobody waits for answers there; question=%.50r reply_to=%.200r", method, reply_to)
        return None

    def _waits_for_answers(self, reply_to: Any) -> bool:
        assert self.mailbox is not None
        assert self.mailbox.reply_exchange is not None
        match reply_to:
            # Each who asks has a queue of its own, named after a UUID.
            case {"exchange": self.mailbox.reply_exchange.name, "routing_key": str(key)}:
                return key == str(_uuid(key) or "")
        return False


class QuestionBox(Pidbox):
    """The mailbox of questions of one worker."""

    def __init__(self, c: Any) -> None:
        super().__init__(c)
        self.node = _Answering(self.node.hostname, self.node.state, handlers=dict(ANSWERS), mailbox=c.app.control.questions)


class Questions(bootsteps.StartStopStep):
    """Listens to questions beside Celery's own remote control, where that is on."""

    requires = (Tasks,)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._box = QuestionBox(c)

    def start(self, parent: Any) -> None:
        self._box.start(parent)

    def stop(self, parent: Any) -> None:
        self._box.stop(parent)

    def shutdown(self, parent: Any) -> None:
        self._box.shutdown(parent)

    def include_if(self, c: Any) -> bool:
        return bool(c.app.conf.worker_enable_remote_control)
