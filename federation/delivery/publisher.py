"""Sends what the outbox holds: places the batch, then hands each execution to ActiveMQ in a short transaction; never raises."""

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from celery import Celery
from pydantic import ValidationError
from sqlalchemy import Engine, bindparam, func, or_, select

from federation.breaker import Breaker
from federation.delivery.app import load
from federation.delivery.envelope import HEADER, Envelope
from federation.delivery.known_nodes import KnownNodes
from federation.delivery.sending import MessageRefused, send, tell_cancelled
from federation.delivery.signer import KeyRevoked
from federation.errors import BrokerUnavailable, SettingsError, TransientError
from federation.placement.fitting import Unplaceable
from federation.placement.requirements import Requirements
from federation.services import nodes, parts
from federation.store import event_log, outbox
from federation.store.context import Unsent, attach, context
from federation.store.models.executions import Execution, OutboxEntry
from federation.transaction import Silent, Transactions

logger = logging.getLogger(__name__)

ACTOR = parts.OUTBOX

# What is not due waits for its time alone, wherever it would go.
# Each look moves an entry to the end, so that no number of entries that cannot be sent keeps another from its turn.
_IS_DUE = or_(Execution.due_at.is_(None), Execution.due_at <= func.clock_timestamp())
# Part of a query: whether there is anything to sweep.
ANY_DUE = select(OutboxEntry.execution_id).join(Execution, Execution.id == OutboxEntry.execution_id).where(_IS_DUE).exists()
_LONGEST_UNTRIED = (OutboxEntry.tried_at.nulls_first(), OutboxEntry.created_at)


@dataclass(frozen=True, slots=True)
class _Placed:
    """An execution whose node is chosen."""

    execution_id: uuid.UUID
    requirements: Requirements
    node: str


class _NodeGone(Exception):
    """The node of an execution left or died between the choice and the sending."""


_LEFT = (
    select(OutboxEntry.execution_id, Execution.requirements, Execution.affinity, OutboxEntry.waiting_for)
    .join(Execution, Execution.id == OutboxEntry.execution_id)
    .where(_IS_DUE)
    .order_by(*_LONGEST_UNTRIED)
)
# Made once, because each request that wants something done on a node sends it.
_SENT = event_log.together(
    """
    gone AS (DELETE FROM outbox WHERE execution_id = :id),
    sent AS (UPDATE executions SET node = :node, sent_at = clock_timestamp(), updated_by = :actor WHERE id = :id RETURNING id)
    """,
    first="sent",
)


class CeleryPublisher:
    """Sends recorded executions over Celery; safe to share between threads, never between processes."""

    def __init__(self, app: Celery, engine: Engine, *, stale_s: float) -> None:
        self._app = app
        self._nodes = KnownNodes(stale_s=stale_s)
        self._transactions = Transactions(engine, Silent())
        self._breaker = Breaker()
        columns = (
            Execution.id,
            Execution.task_name,
            Execution.kwargs,
            Execution.requirements,
            Execution.priority,
            Execution.actor,
            Execution.trace_id,
        )
        self._take = (
            select(*columns, nodes.lives(bindparam("node"), stale_s=stale_s).label("node_lives"))
            .join(OutboxEntry, Execution.id == OutboxEntry.execution_id)
            .where(OutboxEntry.execution_id == bindparam("id"))
            .with_for_update(of=OutboxEntry, skip_locked=True)
        )

    def publish(self, unsent: Sequence[Unsent]) -> None:
        """Send these executions; what is not sent now stays for the sweep. Never raises."""
        self._publish(unsent)

    def cancel(self, execution_ids: Sequence[uuid.UUID]) -> None:
        """Wake who waits for these executions, and have workers end those that run; never raises.

        A courtesy: a worker that does not hear it looks before it begins, and finds at its next effect that it has none.
        """
        with _survived(len(execution_ids)):
            load(self._app)
            for execution_id in execution_ids:
                self._app.backend.mark_as_revoked(str(execution_id), reason="cancelled")
            if not self._breaker.is_open:
                tell_cancelled(self._app, [str(execution_id) for execution_id in execution_ids])

    def sweep(self, limit: int = 200) -> int:
        """Send what is left in the outbox, what was not tried for longest first; return how many were sent. Never raises."""
        if self._breaker.is_open:
            return 0
        left: Sequence[Unsent] = ()
        with _survived(limit), self._transactions.begin(ACTOR) as session:
            left = [Unsent(*row) for row in session.execute(_LEFT.limit(limit))]
        return self._publish(left, afresh=True) if left else 0

    def _publish(self, unsent: Sequence[Unsent], *, afresh: bool = False) -> int:
        sent = 0
        with _survived(len(unsent)):
            load(self._app)
            while unsent:
                gone = []
                for placed, entry in self._place(unsent, afresh=afresh):
                    if self._breaker.is_open:
                        raise BrokerUnavailable("ActiveMQ did not answer a moment ago")
                    try:
                        sent += self._try_to_send(placed)
                    except _NodeGone:
                        gone.append(entry)
                unsent, afresh = gone, True
        return sent

    def _place(self, unsent: Sequence[Unsent], *, afresh: bool) -> list[tuple[_Placed, Unsent]]:
        """Choose a node for each of these; those without one are parked, all in one statement."""
        placed, parked = [], {}
        looked_now = self._look(afresh=afresh) if afresh or self._nodes.are_old else False
        for entry in unsent:
            chosen = self._choose(entry)
            if isinstance(chosen, Unplaceable) and not looked_now:
                # Its node may have come a moment ago.
                looked_now = self._look(afresh=True)
                chosen = self._choose(entry)
            if isinstance(chosen, _Placed):
                placed.append((chosen, entry))
                continue
            parked[entry.execution_id] = str(chosen)
            if entry.waiting_for != str(chosen):
                logger.info("outbox.unplaced", extra={"execution_id": str(entry.execution_id), "waiting_for": str(chosen)})
        if parked:
            with self._transactions.begin(ACTOR) as session:
                outbox.record_unsent(session, parked)
        return placed

    def _look(self, *, afresh: bool) -> bool:
        # Of many who find at once that what is known is old, one reads it.
        with self._nodes.looking:
            if not afresh and not self._nodes.are_old:
                return False
            with self._transactions.begin(ACTOR) as session:
                return self._nodes.look(session, afresh=True)

    def _choose(self, entry: Unsent) -> _Placed | Unplaceable | str:
        try:
            requirements = Requirements.model_validate(entry.requirements)
        except ValidationError as error:
            return f"its requirements cannot be read: {error.errors(include_url=False)[0]['msg']}"
        chosen = self._nodes.place(requirements, key=entry.affinity)
        return chosen if isinstance(chosen, Unplaceable) else _Placed(entry.execution_id, requirements, chosen)

    def _try_to_send(self, placed: _Placed) -> bool:
        """Return whether it was sent now; what is wrong with one execution holds up no other. Raises TransientError, _NodeGone."""
        try:
            sent = self._send(placed)
        except BrokerUnavailable:
            self._breaker.failed()
            self._failed(placed, None)
            raise
        except (TransientError, _NodeGone):
            raise
        except (MessageRefused, KeyRevoked, SettingsError) as error:
            logger.warning("outbox.refused", extra={"execution_id": str(placed.execution_id), "reason": str(error)})
            self._failed(placed, f"cannot be sent: {error}")
            return False
        except Exception as error:  # another execution may be fine, and nobody above could do anything about this one
            logger.exception("outbox.failed", extra={"execution_id": str(placed.execution_id)})
            self._failed(placed, f"cannot be sent: {error!r}")
            return False
        self._breaker.succeeded()
        return sent

    def _send(self, placed: _Placed) -> bool:
        with self._transactions.begin(ACTOR) as session:
            # Whoever holds the row sends it; a crash between the sending and the commit sends it twice under one id, which is absorbed.
            execution = session.execute(self._take, {"id": placed.execution_id, "node": placed.node}).one_or_none()
            if execution is None:
                return False
            if not execution.node_lives:
                raise _NodeGone
            attach(session, replace(context(session), trace_id=execution.trace_id, execution_id=execution.id))
            send(
                self._app,
                execution.task_name,
                execution.kwargs,
                execution_id=execution.id,
                queue=placed.node,
                # Ours counts from 1 to 10, ActiveMQ's from 0 to 9; the higher goes first in both.
                priority=execution.priority - 1,
                headers={HEADER: Envelope(actor=execution.actor, trace_id=execution.trace_id, requirements=placed.requirements).header()},
            )
            payload = {"node": placed.node, "task_name": execution.task_name, "requirements": execution.requirements}
            event_log.append(session, "execution.placed", f"execution:{execution.id}", payload=payload)
            event_log.write(session, _SENT, id=execution.id, node=placed.node, actor=context(session).actor)
            return True

    def _failed(self, placed: _Placed, reason: str | None) -> None:
        """Count a try in vain, in a transaction of its own; without a reason it waits for nothing but ActiveMQ."""
        with self._transactions.begin(ACTOR) as session:
            outbox.record_unsent(session, {placed.execution_id: reason}, tries=1)


@contextmanager
def _survived(count: int) -> Iterator[None]:
    """Log what stops a batch: its executions are recorded, and the next sweep tries again."""
    try:
        yield
    except TransientError as error:
        logger.warning("outbox.deferred reason=%s", error.__cause__ or error, extra={"count": count})
    except Exception:  # the caller has committed already: to it this is no failure
        logger.exception("outbox.failed", extra={"count": count})
