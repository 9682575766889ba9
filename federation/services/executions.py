"""Executions: how far each has come (derived, never stored), its deliveries, its effects, and its quarantine."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.store import event_log
from federation.store.context import context
from federation.store.models.executions import Delivery, Effect, Execution, QuarantinedMessage


class State(StrEnum):
    """How far an execution has come."""

    RECORDED = "recorded"
    UNPLACED = "unplaced"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.QUARANTINED})


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as its readers see it; worker and pid are those of its last delivery."""

    id: uuid.UUID
    task_name: str
    state: State
    waiting_for: str | None
    node: str | None
    worker: str | None
    pid: int | None
    deliveries: int
    created_at: datetime
    sent_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    trace_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A delivery that was counted: which one it is, how many of them repeat one without an end, and what the execution's result is so far."""

    number: int
    redeliveries: int
    result_state: str | None


# One statement, so that the parts of the answer are of one moment. A state that is not final (RETRY) waits in a queue again.
_STATE = text(
    """
    SELECT e.id, e.task_name, e.node, e.created_at, e.sent_at, e.trace_id, o.waiting_for,
        d.worker, d.pid, coalesce(d.number, 0) AS deliveries, d.delivered_at AS started_at,
        CASE WHEN e.cancelled_at IS NOT NULL THEN e.cancelled_at
             WHEN q.execution_id IS NOT NULL THEN coalesce(r.date_done, q.created_at) ELSE r.date_done END AS finished_at,
        CASE WHEN r.state = 'SUCCESS' THEN 'completed'
             WHEN e.cancelled_at IS NOT NULL OR r.state = 'REVOKED' THEN 'cancelled'
             WHEN q.execution_id IS NOT NULL THEN 'quarantined'
             WHEN r.state = 'FAILURE' THEN 'failed'
             WHEN o.waiting_for IS NOT NULL THEN 'unplaced'
             WHEN o.execution_id IS NOT NULL THEN 'recorded'
             WHEN d.execution_id IS NOT NULL AND r.state IS DISTINCT FROM 'RETRY' THEN 'running'
             ELSE 'queued' END AS state
    FROM executions e
    LEFT JOIN outbox o ON o.execution_id = e.id
    LEFT JOIN LATERAL (SELECT * FROM execution_deliveries WHERE execution_id = e.id ORDER BY number DESC LIMIT 1) d ON true
    LEFT JOIN LATERAL (SELECT execution_id, created_at FROM quarantine WHERE execution_id = e.id ORDER BY created_at DESC LIMIT 1) q ON true
    LEFT JOIN celery_results s ON s.task_id = e.id::text
    CROSS JOIN LATERAL (SELECT coalesce(s.state, e.outcome) AS state, coalesce(s.date_done, e.ended_at) AS date_done) r
    WHERE e.id = :id
    """
)

# The number is taken by the insert itself; two deliveries at once take the same, and the second asks again. The broker's mark alone
# says too much: it is also on a message that a worker had in hand and did not begin, or gave back in good order (as a new message,
# with one more return). So it counts only where the same message was delivered before.
_DELIVER = text(
    """
    INSERT INTO execution_deliveries (execution_id, number, task_name, worker, pid, retries, returns, redelivered)
    SELECT :id, coalesce(max(number), 0) + 1, :task_name, :worker, :pid, :retries, :returns,
        :redelivered AND coalesce(bool_or((retries, returns) = (:retries, :returns)), false)
    FROM execution_deliveries WHERE execution_id = :id
    ON CONFLICT DO NOTHING
    RETURNING number,
        redelivered::int + (SELECT count(*) FROM execution_deliveries WHERE execution_id = :id AND redelivered) AS redeliveries,
        coalesce((SELECT state FROM celery_results WHERE task_id = :task_id), (SELECT outcome FROM executions WHERE id = :id)) AS result_state
    """
)


_NOTE = text(
    """
    UPDATE executions SET outcome = r.state, ended_at = r.date_done, updated_by = :actor
    FROM celery_results r
    WHERE r.task_id = executions.id::text AND executions.outcome IS NULL AND executions.cancelled_at IS NULL
        AND r.state IN ('SUCCESS', 'FAILURE', 'REVOKED')
    RETURNING executions.id
    """
)
# A failure may have been followed by a success. Somewhat ahead of the clean-up, so that no result expires between the two.
_KEEP = text(
    """
    UPDATE executions SET outcome = r.state, ended_at = r.date_done, updated_by = :actor
    FROM celery_results r
    WHERE r.task_id = executions.id::text AND executions.outcome IS DISTINCT FROM r.state
        AND r.state IN ('SUCCESS', 'FAILURE', 'REVOKED') AND r.expires_at < clock_timestamp() + interval '5 minutes'
    RETURNING executions.id
    """
)


def note_outcomes(session: Session) -> None:
    """Note which executions have ended, so that who counts the unfinished does not look at these again."""
    noted = len(session.execute(_NOTE, {"actor": context(session).actor}).all())
    if noted:
        event_log.append(session, "execution.outcomes_noted", "executions", payload={"executions": noted})


def keep_outcomes(session: Session) -> None:
    """Note how those executions ended whose results are about to be cleaned up."""
    kept = len(session.execute(_KEEP, {"actor": context(session).actor}).all())
    if kept:
        event_log.append(session, "execution.outcomes_kept", "executions", payload={"executions": kept})


def state(session: Session, execution_id: uuid.UUID) -> ExecutionView:
    """Return how far an execution has come. Raises NotFound."""
    row = session.execute(_STATE, {"id": execution_id}).mappings().one_or_none()
    if row is None:
        latest = session.scalars(select(Execution.id).order_by(Execution.created_at.desc()).limit(3))
        raise NotFound("execution", str(execution_id), map(str, latest))
    return ExecutionView(**{**row, "state": State(row["state"])})


def record_delivery(
    session: Session,
    execution_id: uuid.UUID,
    *,
    task_id: str,
    task_name: str,
    worker: str,
    pid: int,
    retries: int = 0,
    returns: int = 0,
    redelivered: bool,
) -> Recorded:
    """Count that an execution was handed to a worker's process, before its body runs.

    `retries` and `returns` tell which of the execution's messages it was, `redelivered` is what the broker says of that one.
    """
    values = {
        "id": execution_id,
        "task_id": task_id,
        "task_name": task_name,
        "worker": worker,
        "pid": pid,
        "retries": retries,
        "returns": returns,
        "redelivered": redelivered,
    }
    while True:
        row = session.execute(_DELIVER, values).one_or_none()
        if row is not None:
            break
    payload = {"number": row.number, "task_name": task_name, "worker": worker, "pid": pid, "redelivered": redelivered}
    event_log.append(session, "execution.delivered", f"execution:{execution_id}", payload=payload)
    return Recorded(number=row.number, redeliveries=row.redeliveries, result_state=row.result_state)


def once(session: Session, key: str, value: Mapping[str, Any]) -> bool:
    """Return True to the first delivery that records this effect of the current execution; it commits with the write that it stands for."""
    who = context(session)
    if who.execution_id is None:
        raise InvalidInput("execution_id", None, "a transaction of an execution; open it with the task's transaction()")
    statement = insert(Effect).values(execution_id=who.execution_id, key=key, value=dict(value), actor=who.actor)
    if session.scalar(statement.on_conflict_do_nothing().returning(Effect.key)) is None:
        return False
    event_log.append(session, "execution.effect_recorded", f"execution:{who.execution_id}", payload={"key": key, "value": value})
    return True


def quarantine(
    session: Session,
    reason: str,
    *,
    queue: str,
    worker: str,
    headers: Mapping[str, Any],
    body: bytes,
    execution_id: uuid.UUID | None = None,
    task_name: str | None = None,
) -> uuid.UUID:
    """Put a message aside with its reason, its deliveries and all that came with it; return the entry's id."""
    story = [] if execution_id is None else _story(session, execution_id)
    kept = {**_storable(headers), "deliveries": story}
    entry = QuarantinedMessage(
        id=uuid.uuid4(),
        execution_id=execution_id,
        task_name=None if task_name is None else _storable(task_name),
        queue=queue,
        worker=worker,
        reason=_storable(reason),
        headers=kept,
        body=body,
    )
    session.add(entry)
    session.flush()
    stream = f"execution:{execution_id}" if execution_id else f"queue:{queue}"
    payload = {"quarantine_id": entry.id, "task_name": entry.task_name, "queue": queue, "reason": entry.reason, "deliveries": story}
    event_log.append(session, "execution.quarantined", stream, payload=payload)
    return entry.id


def _storable(value: Any) -> Any:
    """Return foreign headers as JSON that PostgreSQL takes: its text holds neither NUL nor lone surrogates."""
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    text_value = value if isinstance(value, str) else repr(value)
    return text_value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def agent_task_of(session: Session, execution_id: uuid.UUID) -> uuid.UUID | None:
    """Return the task that an execution works for, if it works for one."""
    return session.scalar(select(Execution.agent_task_id).where(Execution.id == execution_id))


def _story(session: Session, execution_id: uuid.UUID) -> list[dict[str, Any]]:
    rows = session.scalars(select(Delivery).where(Delivery.execution_id == execution_id).order_by(Delivery.number))
    return [
        {"number": row.number, "worker": row.worker, "pid": row.pid, "redelivered": row.redelivered, "at": row.delivered_at.isoformat()}
        for row in rows
    ]


def waiting_for(session: Session, execution_ids: Sequence[uuid.UUID]) -> str | None:
    """Return what the first of these executions that no live node can take waits for; None if none does."""
    query = text("SELECT waiting_for FROM outbox WHERE execution_id = ANY(:ids) AND waiting_for IS NOT NULL ORDER BY created_at LIMIT 1")
    found: str | None = session.scalar(query, {"ids": list(execution_ids)})
    return found
