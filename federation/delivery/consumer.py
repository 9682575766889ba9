"""The worker's consumer: puts aside what cannot or must not be run, stops taking messages while PostgreSQL is away, and never drops one."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.worker.consumer import Consumer
from kombu import Message
from sqlalchemy import text

from federation.broker.leaving import is_ending
from federation.delivery import request
from federation.delivery.clerk import Clerk
from federation.delivery.failing import fail_task_of
from federation.delivery.gate import Gate, Unread
from federation.delivery.pause import database_away
from federation.delivery.runtime import transactions
from federation.errors import DatabaseUnavailable, PermanentError, TransientError
from federation.placement.node import NodeView
from federation.services import nodes, parts, quarantine
from federation.settings import settings
from federation.store import outbox

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 0.5
LONGEST_LOOK_S = 10.0


class QuarantiningConsumer(Consumer):
    """Celery's consumer; malformed messages go to the table `quarantine`, and a dead database pauses it."""

    # Set by Celery, missing in its stubs.
    task_consumer: Any
    controller: Any
    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Gossip and mingle cost a second at start and traffic ever after; placement does what they are for.
        super().__init__(*args, **{**kwargs, "without_gossip": True, "without_mingle": True})
        # SQL never runs on the hub's thread: a slow database would stop heart-beats.
        self._quarantine = Clerk("quarantine")
        self._reader = Clerk("signers")
        self._being_read: set[str] = set()
        self._gate = Gate(self.app, self._node, required=settings().signatures == "required", refresh=self._refresh)
        self._looking = threading.Lock()
        # Between two looks at a database that is away, and until when another pause goes on with that.
        self._look_s, self._soon_until = FIRST_LOOK_S, 0.0
        self._ended = threading.Event()
        database_away.connect(self.pause)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        run = super().create_task_handler(*args, **kwargs)

        def on_message(message: Message, by_last: bool = False) -> None:
            if is_ending():
                # It was held up until its signer's key was read; the pool takes nothing more.
                self._reject(message, True)
                return
            verdict = self._gate.judge(message, by_last=by_last)
            if isinstance(verdict, Unread):
                self._reader.do(self._read_signer, verdict.identity, message, on_message)
                return
            if verdict is not None and verdict.lacks is not None:
                self._quarantine.do(self._send_back, message, verdict.reason, verdict.lacks)
                return
            if verdict is not None:
                self._put_aside(message, verdict.reason, final=verdict.final)
                return
            try:
                run(message)
            except self.connection_errors:
                raise
            except Exception as error:  # one message must not end a worker, whatever Celery makes of it
                logger.exception("message.not_handed_over")
                self._put_aside(message, f"it cannot be handed over: {error!r}", final=True)

        return on_message

    def _node(self) -> NodeView | None:
        """Return what this worker has announced of its node; None before that, when no message has come yet."""
        found: NodeView | None = getattr(self.controller, "federation_view", None)
        return found

    def _read_signer(self, identity: str, message: Message, judge: Callable[..., None]) -> None:
        """Look a key up, then have the message judged; where that cannot be known now it goes back, because it may be good."""
        try:
            with transactions().begin(parts.WORKER) as session:
                self._gate.signers.read(session, identity)
        except Exception as error:  # noqa: BLE001 - a message that nobody settles holds a place of this worker for ever
            logger.warning("message.signer_unread reason=%s", error)
            if self._gate.signers.last(identity) is not None:
                self.call_soon(judge, message, True)
                return
            if not isinstance(error, TransientError) or isinstance(error, DatabaseUnavailable):
                # Also what should not happen: looking again and again must not take all of this worker's time.
                self.pause()
            self.call_soon(self._reject, message, True)
        else:
            self.call_soon(judge, message)

    def _refresh(self, identity: str) -> None:
        """Read a key anew soon; the event loop's thread asks, and no more than once at a time for each."""
        if identity not in self._being_read:
            self._being_read.add(identity)
            self._reader.do(self._read_again, identity)

    def _read_again(self, identity: str) -> None:
        try:
            with transactions().begin(parts.WORKER) as session:
                self._gate.signers.read(session, identity)
        except TransientError as error:
            logger.info("message.signer_unread reason=%s", error)
        finally:
            self._being_read.discard(identity)

    def cancel_active_requests(self) -> None:
        """End what runs, on a cold shutdown; a pool of threads cannot, and what it runs comes again when the process has ended.

        Called from a signal's handler: what it raised would strike whatever the main thread is at, such as the reading of a message.
        """
        with suppress(NotImplementedError):
            super().cancel_active_requests()

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        self._put_aside(message, f"the message cannot be read: {exc}", final=False)

    # The next three are called for what has passed the gate.
    def on_unknown_message(self, body: Any, message: Message) -> None:
        self._put_aside(message, "this is no message of Celery", final=True)

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        self._put_aside(message, f"unknown task {exc}", final=True)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        self._put_aside(message, f"invalid task message: {exc}", final=True)

    def pause(self, **_: Any) -> None:
        """Stop taking messages until PostgreSQL answers; may be called from any thread."""
        self.call_soon(self._cancel)
        if self._looking.acquire(blocking=False):
            logger.warning("consumer.paused reason=the database is away")
            threading.Thread(target=self._resume_later, name="database-watch", daemon=True).start()

    def shutdown(self) -> None:
        self._ended.set()
        request.finish()
        super().shutdown()

    def _cancel(self) -> None:
        if self.task_consumer:
            self.task_consumer.cancel()

    def _resume(self) -> None:
        if self.task_consumer and not self._ended.is_set():
            self.task_consumer.consume()
            logger.warning("consumer.resumed")

    def _resume_later(self) -> None:
        try:
            self._wait_for_database()
        finally:
            # Before the resuming: a pause in between must find nobody looking, or nobody would look for it.
            self._looking.release()
        self.call_soon(self._resume)

    def _wait_for_database(self) -> None:
        # One that answers and does not take our work, because its disk is full, say, is not asked twice a second for ever.
        if time.monotonic() > self._soon_until:
            self._look_s = FIRST_LOOK_S
        while not self._ended.wait(self._look_s):
            self._look_s = min(self._look_s * 2, LONGEST_LOOK_S)
            self._soon_until = time.monotonic() + 2 * LONGEST_LOOK_S
            try:
                with transactions().begin(parts.WORKER) as session:
                    session.execute(text("SELECT 1"))
            except TransientError:
                continue
            except Exception:  # who looks must go on, or this worker would never take a message again
                logger.exception("consumer.look_failed")
            else:
                return

    def _put_aside(self, message: Message, reason: str, *, final: bool) -> None:
        """Keep a message that is not run; unless that is `final`, it says nothing about the execution whose id it bears."""
        logger.error("message.malformed", extra={"reason": reason})
        self._quarantine.do(self._keep_record, message, reason, final)

    def _send_back(self, message: Message, reason: str, lacks: str) -> None:
        """Have placed anew what was sent to this node, which cannot do it any more; put aside what was not."""

        def keep() -> None:
            if not self._taken_back(message, lacks):
                self._record(message, reason, False)

        self._settle(message, reason, keep, final=False)

    def _taken_back(self, message: Message, lacks: str) -> bool:
        identity, queue = _uuid(message.headers.get("id")), _queue(message)
        if identity is None:
            return False
        with transactions().begin(f"node:{queue}") as session:
            # Who may write to a queue may send there what was sent elsewhere.
            execution = nodes.sent_to(session, queue, identity)
            if execution is None:
                return False
            outbox.take_back(session, execution, lacks)
        logger.warning("execution.sent_back", extra={"execution_id": str(identity), "waiting_for": lacks})
        return True

    def _keep_record(self, message: Message, reason: str, final: bool) -> None:
        self._settle(message, reason, lambda: self._record(message, reason, final), final=final)

    def _settle(self, message: Message, reason: str, keep: Callable[[], object], *, final: bool) -> None:
        try:
            keep()
        except TransientError as error:
            if isinstance(error, DatabaseUnavailable):
                self.pause()
            self.call_soon(self._reject, message, True)
        except Exception:  # a message that nobody settles holds a place of this worker for ever
            logger.exception("message.quarantine_failed: it goes to the broker's dead letters", extra={"reason": reason})
            self.call_soon(self._reject, message, False)
        else:
            # The caller first: a process that dies in between has the message delivered again.
            if final:
                self._tell_caller(message, reason)
            self.call_soon(self._acknowledge, message)

    def _acknowledge(self, message: Message) -> None:
        if not message.acknowledged:
            message.ack_log_error(logger, self.connection_errors)

    def _reject(self, message: Message, requeue: bool) -> None:
        if not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors, requeue)

    def _record(self, message: Message, reason: str, final: bool) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {"headers": message.headers}
        queue = _queue(message)
        task_id, task_name = headers.get("id"), headers.get("task")
        kept = {
            **headers,
            "content-type": message.content_type,
            "content-encoding": message.content_encoding,
            "properties": message.properties,
        }
        # Whoever may write to a queue knows ids, and must not end executions by naming them.
        execution_id = _uuid(task_id) if final else None
        with transactions().begin(f"node:{queue}") as session:
            entry = quarantine.put_aside(
                session,
                reason,
                queue=queue,
                worker=self.hostname,
                headers=kept,
                body=_raw(message),
                execution_id=execution_id,
                task_name=task_name if isinstance(task_name, str) else None,
            )
            if execution_id is not None:
                fail_task_of(session, execution_id, {"error": reason, "quarantine_id": str(entry)})

    def _tell_caller(self, message: Message, reason: str) -> None:
        task_id = message.headers.get("id") if isinstance(message.headers, dict) else None
        if not isinstance(task_id, str) or not task_id:
            return
        try:
            self.app.backend.store_result(task_id, PermanentError(reason), "FAILURE")
        except Exception:  # a courtesy: the message is put aside already, and not every foreign id fits into the table of results
            logger.exception("message.result_not_stored", extra={"reason": reason})


def _queue(message: Message) -> str:
    return str((message.delivery_info or {}).get("routing_key") or "unknown")


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None


def _raw(message: Message) -> bytes:
    body = message.body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")
    return bytes(body or b"")
