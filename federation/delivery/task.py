"""The base class of our tasks: counts deliveries, quarantines what keeps failing its worker, retries what may succeed later."""

import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore, Reject, TimeLimitExceeded
from sqlalchemy.orm import Session

from federation.delivery import ending, overtime
from federation.delivery.envelope import HEADER, SIGNATURE, Envelope, read
from federation.delivery.failing import fail, fail_task_of
from federation.delivery.logs import trace
from federation.delivery.pause import requeue
from federation.delivery.runtime import transactions
from federation.delivery.sending import LOSSES, RETURNS
from federation.errors import DatabaseUnavailable, PermanentError, TransientError
from federation.services import executions, quarantine
from federation.settings import settings
from federation.store.context import Context, attach
from federation.store.fixed_ids import fixed_id
from federation.transaction import new_trace_id

if TYPE_CHECKING:
    CeleryTask = Task[Any, Any]
else:
    CeleryTask = Task

logger = logging.getLogger(__name__)


# The state of a result that is no end yet.
PROGRESS = "PROGRESS"


class BrokenOff(PermanentError):
    """The body of an execution ended as if its whole process should."""


class Quarantined(PermanentError):
    """An execution was handed over too often without an end; what is known of it is in the table `quarantine`."""


class FederationTask(CeleryTask):
    """A task that is delivered at least once, whose effects happen once.

    In the body, `self.transaction()` opens a transaction for the one who asked, and `executions.once(session, key, value)`
    is True to the first delivery only. TransientError is retried with back-off; with the database away the message goes back.
    """

    Request = "federation.delivery.request:FederationRequest"
    autoretry_for = (TransientError,)
    dont_autoretry_for = (DatabaseUnavailable,)
    # A refusal is a line in the worker's log, without a traceback.
    throws = (PermanentError,)
    max_retries = 8
    retry_backoff = 1
    retry_backoff_max = 60
    retry_jitter = True

    @property
    def execution_id(self) -> uuid.UUID:
        """The id of the running execution; one that is no UUID gets a fixed one of its own."""
        return _identity(str(self.request.id))

    @property
    def node(self) -> str:
        """The node that runs it: the queue it came from."""
        return (self.request.delivery_info or {}).get("routing_key") or "unknown"

    @property
    def is_first_delivery(self) -> bool:
        """Whether the running execution was never delivered before, so that it has had no effect yet."""
        return bool(vars(self.request).get("is_first_delivery"))

    @property
    def _ignores_result(self) -> bool:
        # Celery's Context has a default of its own, which says nothing.
        asked = vars(self.request).get("ignore_result")
        return bool(self.ignore_result if asked is None else asked)

    @property
    def envelope(self) -> Envelope | None:
        """What travelled with it, if it came from our outbox."""
        header = (self.request.headers or {}).get(HEADER)
        return None if header is None else read(header)

    @contextmanager
    def transaction(self, *, actor: str | None = None) -> Iterator[Session]:
        """Open a transaction in the name of who asked (or of `actor`), under the execution's trace and id."""
        who = self._context()
        with (
            self._in_time() as before_commit,
            transactions().begin(actor or who.actor, trace_id=who.trace_id, execution_id=who.execution_id) as session,
        ):
            yield session
            before_commit()

    def _context(self) -> Context:
        envelope = self.envelope
        actor, trace_id = (envelope.actor, envelope.trace_id) if envelope else (f"node:{self.node}", new_trace_id())
        return Context(actor=actor, trace_id=trace_id, execution_id=self.execution_id)

    @staticmethod
    def _in_time() -> AbstractContextManager[Callable[[], None]]:
        run = overtime.current()
        return run.committing() if run else nullcontext(lambda: None)

    def tell_progress(self, done: int, total: int, note: str | None = None, *, besides: Callable[[Session], None] | None = None) -> None:
        """Say how far it is, where federation_task_status shows it. Raises Cancelled if it is not wanted any more.

        Whether it is wanted `besides` can find out, in the one statement with which it tells of it too.
        """
        # First, because somebody waits for it; over an end it writes nothing.
        self.update_state(state=PROGRESS, meta={"done": done, "total": total, "note": note})
        with self._in_time() as before_commit, transactions().single() as session:
            attach(session, self._context())
            before_commit()
            if besides is None:
                executions.require_wanted(session, self.execution_id)
            else:
                besides(session)

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """While the block waits for somebody else, have `end` called from another thread when the execution is cancelled or over its time.

        What comes of it is the block's to tell. Raises Cancelled after a block that raised because it was ended so.
        """
        try:
            with ending.by(str(self.request.id), end):
                yield
        except Exception:
            if (run := overtime.current()) is not None:
                run.require_time()
            with self.transaction() as session:
                executions.require_wanted(session, self.execution_id)
            raise

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """As Celery's; where the next try cannot be sent, this delivery goes back to the queue instead of being lost."""
        if (run := overtime.current()) is not None:
            run.require_time()
        try:
            return super().retry(*args, **kwargs)
        except Reject as error:
            raise Reject(error.args[0], requeue=True) from error

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Tell that this execution failed, and end the task that it worked for, so that nobody waits for it."""
        try:
            # What was put aside has been told as that.
            if self.envelope is None or isinstance(exc, Quarantined):
                return
            with self.transaction(actor=f"node:{self.node}") as session:
                fail(session, self.execution_id, type(exc).__name__, {"error": str(exc) or repr(exc), "node": self.node})
        except Exception:  # Celery would take it for a fault of its own, and the failure is recorded already
            logger.exception("task.end_unrecorded", extra={"execution_id": str(self.execution_id)})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        if request.called_directly or request.is_eager:
            return super().__call__(*args, **kwargs)
        envelope = self.envelope
        token = trace.set(envelope.trace_id if envelope else None)
        try:
            redelivered = bool((request.delivery_info or {}).get("redelivered"))
            # What asks for no result and came by no outbox, such as a heartbeat, is not worth a transaction.
            counts = envelope is not None or redelivered or not self._ignores_result
            if counts and self._has_ended(redelivered, args, kwargs):
                # Also its callbacks are sent again, under ids that they had before.
                return self.backend.get_result(str(request.id))
            limit_s = (request.timelimit or (None,))[0] or self.time_limit
            with overtime.limited(limit_s, partial(self._fail_over_time, request)):
                return self._run_body(args, kwargs)
        except DatabaseUnavailable as error:
            raise requeue() from error
        except executions.Cancelled as error:
            logger.info("execution.cancelled", extra={"execution_id": str(self.execution_id)})
            self.backend.mark_as_revoked(str(request.id), reason="cancelled", request=request)
            raise Ignore(str(error)) from error
        finally:
            trace.reset(token)

    def _run_body(self, args: Any, kwargs: Any) -> Any:
        """Run the body; what Celery takes for the end of the whole worker is the failure of this one execution."""
        try:
            return self.run(*args, **kwargs)
        except MemoryError as error:
            raise BrokenOff(f"it ran out of memory: {error}") from error
        except (SystemExit, KeyboardInterrupt) as error:
            if threading.current_thread() is threading.main_thread():
                # A process that is told to end, or that ends itself, is what it looks like.
                raise
            raise BrokenOff(f"it raised {error!r}, as if it were a program of its own") from error

    def _fail_over_time(self, request: Any, limit_s: float) -> None:
        """Record that a run is over its time; called from another thread than the run's."""
        error = TimeLimitExceeded(limit_s)
        ending.end(str(request.id))
        logger.error("execution.over_time", extra={"execution_id": str(request.id), "limit_s": limit_s})
        if (request.headers or {}).get(HEADER) is not None:
            node = (request.delivery_info or {}).get("routing_key") or "unknown"
            identity = _identity(str(request.id))
            with transactions().begin(f"node:{node}", execution_id=identity) as session:
                fail(session, identity, type(error).__name__, {"error": f"it ran longer than its time limit of {limit_s:g} s", "node": node})
        self.backend.mark_as_failure(str(request.id), error, request=request)

    def _has_ended(self, redelivered: bool, args: Any, kwargs: Any) -> bool:
        """Count this delivery; return whether an earlier one succeeded.

        Raises Quarantined after too many, Cancelled, Ignore for one of a try that had another end.
        """
        try:
            delivery = self._record(redelivered)
            self.request.is_first_delivery = delivery.number == 1  # type: ignore[attr-defined]  # ours alone
            if delivery.cancelled:
                raise executions.Cancelled(f"execution {self.execution_id} was cancelled before it began")
            if delivery.finished and delivery.copied:
                reason = self._put_copy_aside(args, kwargs)
                # A worker that ended at once may have given it back itself, marked so: then what follows may still be to be sent.
                if not redelivered:
                    raise Ignore(reason)
            if delivery.result_state == "SUCCESS":
                return True
            if delivery.finished:
                # It has its result, or a later try will have one.
                raise Ignore(f"execution {self.execution_id} had finished its try {self.request.retries} already")
            if delivery.redeliveries >= settings().max_deliveries:
                self._quarantine(delivery.redeliveries, args, kwargs)
        except DatabaseUnavailable:
            raise
        except TransientError as error:
            # Celery's retries are around the body only.
            raise Reject(str(error), requeue=True) from error
        return False

    def _record(self, redelivered: bool) -> executions.Recorded:
        request = self.request
        signature = (request.headers or {}).get(SIGNATURE) or {}
        # Celery keeps four fields of what the transport says of a delivery; all of it is among the properties.
        info = (request.properties or {}).get("delivery_info") or {}
        envelope = self.envelope
        with transactions().single() as session:
            return executions.record_delivery(
                session,
                self.execution_id,
                actor=f"node:{self.node}",
                trace_id=envelope.trace_id if envelope else new_trace_id(),
                task_id=str(request.id),
                task_name=str(self.name),
                worker=str(request.hostname),
                pid=os.getpid(),
                retries=request.retries,
                returns=int((request.headers or {}).get(RETURNS) or 0),
                losses=int((request.headers or {}).get(LOSSES) or 0),
                redelivered=redelivered,
                signature=signature.get("value"),
                message_id=info.get("message_id"),
            )

    def _put_copy_aside(self, args: Any, kwargs: Any) -> str:
        """Keep a message that was sent once more after its end; return why. Says nothing about the execution, which has its result."""
        reason = "it was sent again after its end, by somebody who had the message: the same signature came before, under another of ActiveMQ's names"
        with self.transaction(actor=f"node:{self.node}") as session:
            quarantine.put_aside(
                session,
                reason,
                queue=self.node,
                worker=str(self.request.hostname),
                headers={"id": str(self.request.id), "task": self.name, **(self.request.headers or {})},
                body=json.dumps([args, kwargs, None], default=repr).encode(),
                task_name=str(self.name),
            )
        logger.error("message.replayed", extra={"execution_id": str(self.execution_id)})
        return reason

    def _quarantine(self, redeliveries: int, args: Any, kwargs: Any) -> None:
        reason = f"delivered {redeliveries + 1} times without an end, {settings().max_deliveries} are allowed; its deliveries tell where it was lost"
        with self.transaction(actor=f"node:{self.node}") as session:
            entry = quarantine.put_aside(
                session,
                reason,
                queue=self.node,
                worker=str(self.request.hostname),
                headers=self.request.headers or {},
                body=json.dumps([args, kwargs, None], default=repr).encode(),
                execution_id=self.execution_id,
                task_name=str(self.name),
            )
            fail_task_of(session, self.execution_id, {"error": reason, "quarantine_id": str(entry)})
        logger.error("execution.quarantined", extra={"execution_id": str(self.execution_id), "reason": reason})
        raise Quarantined(reason)


def _identity(task_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(task_id)
    except ValueError:
        return fixed_id("message", task_id)
