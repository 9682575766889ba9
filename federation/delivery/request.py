"""A task request in the worker's main process: gives back in order what lacks a database, and keeps SQL off the event loop."""

import logging
import time
import uuid
from typing import Any

from celery import Celery
from celery.exceptions import Reject, Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker import state as worker_state
from celery.worker.request import Request
from kombu import Message

from federation.delivery.clerk import Clerk
from federation.delivery.failing import fail
from federation.delivery.overtime import Late
from federation.delivery.pause import database_away, is_requeue_for_database
from federation.delivery.runtime import transactions
from federation.delivery.sending import LOSSES, RETURNS, send_again
from federation.errors import PermanentError, TransientError

logger = logging.getLogger(__name__)

# Apart, because results wait for a dead database for as long as it takes, and what is given back must not.
_results = Clerk("results")
_returns = Clerk("returns")
FINISH_WITHIN_S = 5.0
AGAIN_S = 1.0

# What ends an execution without a word of its process, so that the main process stores how it ended.
_UNTOLD = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt, Reject)


def finish() -> None:
    """Wait a few seconds for what is to be told to PostgreSQL and to ActiveMQ; what is left then comes back as a redelivery."""
    if not (_returns.finish(FINISH_WITHIN_S) and _results.finish(FINISH_WITHIN_S)):
        logger.warning("requests.unfinished: the broker delivers again what was not settled")


class FederationRequest(Request):
    """Celery's request, with its waiting for servers on threads of their own: the event loop goes on with heart-beats and control."""

    # Set by Celery, missing in its stubs.
    _app: Celery
    _message: Message
    _already_revoked: bool

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        # A pool of processes wraps it to carry the traceback.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, Late):
            # Celery says nothing of what is ignored, and Flower would show it at work for ever.
            self.send_event("task-failed", exception=str(error), traceback="")
        if is_requeue_for_database(error):
            # First, or the message would come straight back.
            database_away.send(sender=self)
            worker_state.task_ready(self)
            _returns.do(self._give_back, RETURNS)
        elif isinstance(error, _UNTOLD):
            if isinstance(error, TimeLimitExceeded):
                _results.do(self._fail, _over_time(float(error.args[0])))
            _results.do(super().on_failure, exc_info, send_failed_event, return_ok)
        else:
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if soft:
            super().on_timeout(soft, timeout)
        else:
            # First, because the message is settled after it.
            _results.do(self._fail, _over_time(timeout))
            _results.do(super().on_timeout, soft, timeout)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        try:
            super().terminate(pool, signal=signal)
        except NotImplementedError:
            # No pool can end a thread: its execution learns that it was cancelled at its next effect or word of progress.
            logger.info("execution.not_terminated", extra={"execution_id": self.id, "pool": type(pool).__name__})

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        # At once, because the end of a terminated process comes here too.
        self._already_revoked = True
        _results.do(super()._announce_revoked, reason, terminated, signum, expired)  # type: ignore[misc]  # missing in the stubs

    def _fail(self, reason: str) -> None:
        """Tell that it is over its time, which its own process cannot do any more, and end its task; waits for a database that is away."""
        try:
            execution_id = uuid.UUID(self.id)
        except ValueError:
            return
        node = str((self.delivery_info or {}).get("routing_key"))
        while True:
            try:
                with transactions().begin(f"node:{node}", execution_id=execution_id) as session:
                    fail(session, execution_id, TimeLimitExceeded.__name__, {"error": reason, "node": node})
            except TransientError:
                time.sleep(AGAIN_S)
            else:
                return

    def reject(self, requeue: bool = False) -> None:
        """As Celery's; what goes back to its queue says so under a signature, because the broker's mark is anybody's to write."""
        if requeue and not self.acknowledged:
            self._give_back(LOSSES)
        else:
            super().reject(requeue=requeue)

    def _give_back(self, count: str) -> None:
        """Put the message back as a new one, with one more on this count, and settle this delivery; waits for the broker.

        Losses count toward the quarantine, returns do not. A crash between the two leaves two messages under one id.
        """
        try:
            send_again(self._app, self._message, count=count)
        except (TransientError, PermanentError) as error:
            logger.warning("execution.returned_as_redelivery", extra={"execution_id": self.id, "reason": str(error)})
            super().reject(requeue=True)
        else:
            self.acknowledge()
            self.send_event("task-rejected", requeue=True)


def _over_time(limit_s: float) -> str:
    return f"it ran longer than its time limit of {limit_s:g} s"
