"""Remote control in two mailboxes: questions, which any part may ask and which change nothing, and commands, which operators alone may give."""

import copy
from functools import partial
from typing import Any

import click
from celery.app.control import Control

from federation.broker.errors import ConnectionLost, RequestRefused
from federation.errors import Refused

# Celery's own, by name: what a later version brings is a command until somebody has looked at it. `heartbeat` has a worker tell that it is there.
OF_CELERY = (
    *("active", "active_queues", "clock", "conf", "heartbeat", "hello", "ping", "query_task", "registered", "report", "reserved", "revoked"),
    *("scheduled", "stats"),
)
LOOK_FOR_CANCELLED = "look_for_cancelled"
QUESTIONS = frozenset((*OF_CELERY, LOOK_FOR_CANCELLED))

_REMEDY = "Commands to workers are the operators': name the operator's URL in FEDERATION_BROKER_URL; `federation up` writes it to settings.json."


class FederationControl(Control):
    """Sends what is asked to the topic of questions and all else to Celery's own, which the broker takes from operators only."""

    # Set by Celery, missing in its stubs.
    mailbox: Any

    def __init__(self, app: Any = None) -> None:
        super().__init__(app)
        conf = app.conf
        self.questions = self.Mailbox(
            f"{conf.control_exchange}.questions",
            type="fanout",
            accept=conf.accept_content,
            serializer=conf.task_serializer,
            producer_pool=self.mailbox._producer_pool,
            queue_ttl=conf.control_queue_ttl,
            reply_queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires,
            reply_queue_expires=conf.control_queue_expires,
        )

    def _after_fork(self) -> None:
        super()._after_fork()  # type: ignore[misc]  # missing in the stubs
        del self.questions.producer_pool

    def broadcast(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Ask or command workers. Raises Refused for a command where the broker's user is no operator, RequestRefused for a question."""
        if command in QUESTIONS:
            asking = copy.copy(self)
            asking.mailbox = self.questions
            ask = partial(super(FederationControl, asking).broadcast, command, *args, **kwargs)
            try:
                return ask()
            except ConnectionLost:
                # It lay idle in the pool while ActiveMQ was away; to ask twice changes nothing, and the second time it is made anew.
                return ask()
        try:
            return super().broadcast(command, *args, **kwargs)
        except RequestRefused as error:
            refused = Refused(f"The broker does not take the command {command!r} from us: {error.reason}.", _REMEDY)
            if click.get_current_context(silent=True) is None:
                raise refused from error
            # On the command line: one line instead of a traceback.
            raise click.ClickException(str(refused)) from error
