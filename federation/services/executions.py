"""Executions: how far each has come (derived, never stored), its deliveries, its effects, and its quarantine."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound, PermanentError
from federation.store import event_log
from federation.store.context import ACTOR_SETTING, context
from federation.store.models.executions import Execution, OutboxEntry


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


_FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
# A run that is over its time fails in the eyes of more than one thread.
_FAILED_NOW = text(
    """
    SELECT coalesce((SELECT type FROM events WHERE stream = :stream ORDER BY position DESC LIMIT 1), '') <> 'execution.failed'
    FROM executions WHERE id = :id
    """
)
FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.QUARANTINED})


class Cancelled(PermanentError):
    """The execution was cancelled: what it still wants to do has no effect."""


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as its readers see it; worker and pid are those of its last delivery."""

    id: uuid.UUID
    task_name: str
    state: State
    waiting_for: str | None
    progress: dict[str, Any] | None
    node: str | None
    worker: str | None
    pid: int | None
    deliveries: int
    created_at: datetime
    due_at: datetime | None
    sent_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    trace_id: str
    # What a completed one came to, while that is kept.
    value: Any
    kept: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """A delivery that was counted: which one it is, how many of them repeat one without an end, what the execution's result is so far.

    `passed` says that a later try was delivered already; `copied`, that a message with the same signature came before, and never under this name.
    """

    number: int
    redeliveries: int
    result_state: str | None
    cancelled: bool
    passed: bool
    copied: bool

    @property
    def finished(self) -> bool:
        """Whether this try has had its end."""
        return self.passed or self.result_state in _FINAL


# Results are looked for by a text that is given. One that is made from an execution's id could not use the index: PostgreSQL calls the policy of
# results for each of them first, because a cast may tell of what it got.
# One statement, so that the parts of the answer are of one moment. A state that is not final (RETRY) waits in a queue again.
_STATE = text(
    """
    SELECT e.id, e.task_name, e.node, e.created_at, e.due_at, e.sent_at, e.trace_id,
        CASE WHEN early AND o.waiting_for IS NULL THEN to_char(e.due_at AT TIME ZONE 'UTC', '"its time, "YYYY-MM-DD"T"HH24:MI:SS"Z"')
             ELSE o.waiting_for END AS waiting_for,
        CASE WHEN s.state = 'PROGRESS' THEN s.result END AS progress,
        CASE WHEN s.state = 'SUCCESS' THEN s.result END AS value, s.task_id IS NOT NULL AS kept,
        d.worker, d.pid, coalesce(d.number, 0) AS deliveries, d.delivered_at AS started_at,
        CASE WHEN e.cancelled_at IS NOT NULL THEN e.cancelled_at
             WHEN q.execution_id IS NOT NULL THEN coalesce(r.date_done, q.created_at) ELSE r.date_done END AS finished_at,
        CASE WHEN e.cancelled_at IS NOT NULL THEN 'cancelled'
             WHEN r.state = 'SUCCESS' THEN 'completed'
             WHEN r.state = 'REVOKED' THEN 'cancelled'
             WHEN q.execution_id IS NOT NULL THEN 'quarantined'
             WHEN r.state = 'FAILURE' THEN 'failed'
             WHEN o.waiting_for IS NOT NULL OR early THEN 'unplaced'
             WHEN o.execution_id IS NOT NULL THEN 'recorded'
             WHEN d.execution_id IS NOT NULL AND r.state IS DISTINCT FROM 'RETRY' THEN 'running'
             ELSE 'queued' END AS state
    FROM executions e
    LEFT JOIN outbox o ON o.execution_id = e.id
    LEFT JOIN LATERAL (SELECT * FROM execution_deliveries WHERE execution_id = e.id ORDER BY number DESC LIMIT 1) d ON true
    LEFT JOIN LATERAL (SELECT execution_id, created_at FROM quarantine
        WHERE execution_id = e.id AND NOT EXISTS (SELECT FROM redrives WHERE redrives.quarantine_id = quarantine.id)
        ORDER BY created_at DESC LIMIT 1) q ON true
    LEFT JOIN celery_results s ON s.task_id = :task_id
    CROSS JOIN LATERAL (SELECT o.execution_id IS NOT NULL AND coalesce(e.due_at > clock_timestamp(), false) AS early) w
    CROSS JOIN LATERAL (SELECT coalesce(s.state, e.outcome) AS state, coalesce(s.date_done, e.ended_at) AS date_done) r
    WHERE e.id = :id
    """
)

_TOLD = text("SELECT result FROM celery_results WHERE task_id = :task_id AND state = 'PROGRESS'")

# The number is taken by the insert itself; two deliveries at once take the same, and the second asks again. The broker's mark alone
# says too much: any sender can write it, and it is also on a message that a worker had in hand and did not begin. So a delivery repeats an earlier
# one of the same try where that is known otherwise: ActiveMQ calls the message as it did before; or it was moved here from another node, which
# makes a new one; or the worker whose child died, or that was asked for it, has signed anew what it gave back, with one more loss.
_DELIVER = text(
    f"""
    WITH acting AS MATERIALIZED (
        -- Nothing that the execution does is on the disk before this is: if PostgreSQL crashes, the message comes again as if it had not come.
        SELECT set_config(:setting, :actor, true) AS actor, set_config('synchronous_commit', 'off', true)
    ),
    earlier AS (SELECT * FROM execution_deliveries WHERE execution_id = :id),
    known AS (
        SELECT coalesce(bool_or(message_id = CAST(:message_id AS text)), false) AS message,
            coalesce(bool_or(signature = CAST(:signature AS text)), false) AS signature FROM earlier
    ),
    moved AS (
        SELECT EXISTS (
            SELECT FROM (SELECT actor, delivered_at FROM earlier ORDER BY number DESC LIMIT 1) d WHERE d.actor <> :actor AND (
                EXISTS (SELECT FROM nodes WHERE 'node:' || name = d.actor AND (lost_at IS NOT NULL OR left_at IS NOT NULL))
                OR EXISTS (SELECT FROM executions WHERE id = :id AND 'node:' || node = :actor AND sent_at > d.delivered_at)
            )
        ) AS here
    ),
    delivered AS (
        INSERT INTO execution_deliveries
            (execution_id, number, task_name, worker, pid, retries, returns, redelivered, signature, message_id, actor)
        SELECT :id, coalesce(max(number), 0) + 1, :task_name, :worker, :pid, :retries, :returns,
            coalesce(bool_or((retries, returns) = (:retries, :returns)), false) AND (
                :redelivered AND ((SELECT message FROM known) OR (SELECT here FROM moved))
                OR :losses > 0 AND NOT (SELECT signature FROM known)
            ), :signature, :message_id, (SELECT actor FROM acting)
        FROM earlier
        ON CONFLICT DO NOTHING
        RETURNING number, redelivered AS repeated
    )
    SELECT number,
        repeated::int + (
            SELECT count(*) FROM earlier WHERE redelivered
                AND delivered_at > coalesce((SELECT max(created_at) FROM redrives WHERE execution_id = :id), '-infinity')
        ) AS redeliveries,
        coalesce((SELECT state FROM celery_results WHERE task_id = :task_id), (SELECT outcome FROM executions WHERE id = :id)) AS result_state,
        EXISTS (SELECT FROM executions WHERE id = :id AND cancelled_at IS NOT NULL) AS cancelled,
        EXISTS (SELECT FROM earlier WHERE retries > :retries
            AND delivered_at > coalesce((SELECT max(created_at) FROM redrives WHERE execution_id = :id), '-infinity')
            AND delivered_at > coalesce((
                SELECT max(created_at) FROM events WHERE stream = :stream AND type = 'execution.moved' AND payload ->> 'to' IS NULL
            ), '-infinity')) AS passed,
        (SELECT signature AND NOT message FROM known) AND CAST(:message_id AS text) IS NOT NULL AS copied,
        {event_log.completing("jsonb_build_object('number', number, 'repeated', repeated)")}
    FROM delivered
    """  # noqa: S608 - it is ours
)


# One statement, because who waits for a model's words has each of them, and the server of that model may share the processor.
_TELL = text(
    f"""
    WITH acting AS MATERIALIZED (SELECT set_config(:setting, :actor, true), set_config('synchronous_commit', 'off', true))
    SELECT cancelled_at IS NOT NULL AS cancelled, CASE WHEN cancelled_at IS NULL THEN {event_log.completing()} END
    FROM acting LEFT JOIN executions ON id = :id
    """  # noqa: S608 - it is ours
)


# What ended before stays as it ended.
_CANCEL = text(
    """
    UPDATE executions SET cancelled_at = clock_timestamp(), updated_by = :actor
    WHERE id = :id AND cancelled_at IS NULL AND outcome IS NULL AND NOT EXISTS (
        SELECT FROM celery_results WHERE task_id = :task_id AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')
    )
    RETURNING id
    """
)
# The row is locked against a cancellation until the commit: an effect comes before it, or not at all.
_EFFECT = text(
    """
    WITH asked AS (SELECT cancelled_at FROM executions WHERE id = :id FOR SHARE)
    INSERT INTO execution_effects (execution_id, key, value, actor)
    SELECT :id, :key, CAST(:value AS jsonb), :actor WHERE NOT EXISTS (SELECT FROM asked WHERE cancelled_at IS NOT NULL)
    ON CONFLICT DO NOTHING RETURNING key
    """
)


# From each unfinished execution to its result by the key. A join may be planned as if there were few, after a burst that the statistics know nothing
# of yet, and walk through all results for each.
_NOTE = text(
    """
    UPDATE executions SET updated_by = :actor,
        (outcome, ended_at) = (SELECT state, date_done FROM celery_results WHERE task_id = executions.id::text)
    WHERE outcome IS NULL AND cancelled_at IS NULL AND EXISTS (
        SELECT FROM celery_results WHERE task_id = executions.id::text AND state IN ('SUCCESS', 'FAILURE', 'REVOKED') OFFSET 0
    )
    RETURNING id
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
    row = session.execute(_STATE, {"id": execution_id, "task_id": str(execution_id)}).mappings().one_or_none()
    if row is None:
        latest = session.scalars(select(Execution.id).order_by(Execution.created_at.desc()).limit(3))
        raise NotFound("execution", str(execution_id), map(str, latest))
    read = {name: None if row[name] is None else json.loads(row[name]) for name in ("progress", "value")}
    return ExecutionView(**{**row, **read, "state": State(row["state"])})


def told(session: Session, execution_id: uuid.UUID) -> dict[str, Any] | None:
    """Return what an execution that runs last told of its progress; None for one that has told nothing, or does not run.

    For who looks at each word of it, and has looked before whether it is his.
    """
    found = session.scalar(_TOLD, {"task_id": str(execution_id)})
    return None if found is None else dict(json.loads(found))


def of_task(session: Session, task_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the executions that work or worked for a task, the oldest first."""
    return list(session.scalars(select(Execution.id).where(Execution.agent_task_id == task_id).order_by(Execution.created_at)))


def record_delivery(
    session: Session,
    execution_id: uuid.UUID,
    *,
    task_id: str,
    task_name: str,
    worker: str,
    pid: int,
    actor: str,
    trace_id: str,
    retries: int = 0,
    returns: int = 0,
    losses: int = 0,
    redelivered: bool,
    signature: str | None = None,
    message_id: str | None = None,
) -> Recorded:
    """Count that an execution was handed to a worker's process, before its body runs; one statement, with its event.

    `retries` and `returns` tell which of the execution's messages it was, `losses` how often a worker gave it back without an end; `redelivered` and
    `message_id` are what the broker says of that one.
    """
    values = {
        "id": execution_id,
        "setting": ACTOR_SETTING,
        "task_id": task_id,
        "task_name": task_name,
        "worker": worker,
        "pid": pid,
        "retries": retries,
        "returns": returns,
        "losses": losses,
        "redelivered": redelivered,
        "signature": signature,
        "message_id": message_id,
    }
    # What the broker says of the message; and, added by the statement, whether it repeats a delivery that the database knows.
    payload = {"task_name": task_name, "worker": worker, "pid": pid, "redelivered": redelivered}
    values |= event_log.completed("execution.delivered", f"execution:{execution_id}", payload=payload, actor=actor, trace_id=trace_id)
    while True:
        row = session.execute(_DELIVER, values).one_or_none()
        if row is not None:
            break
    return Recorded(
        number=row.number,
        redeliveries=row.redeliveries,
        result_state=row.result_state,
        cancelled=row.cancelled,
        passed=row.passed,
        copied=row.copied,
    )


def once(session: Session, key: str, value: Mapping[str, Any]) -> bool:
    """Return True to the first delivery that records this effect of the current execution; it commits with the write that it stands for.

    Raises Cancelled if the execution was cancelled meanwhile.
    """
    who = context(session)
    if who.execution_id is None:
        raise InvalidInput("execution_id", None, "a transaction of an execution; open it with the task's transaction()")
    values = {"id": who.execution_id, "key": key, "value": json.dumps(value, default=str), "actor": who.actor}
    if session.scalar(_EFFECT, values) is None:
        require_wanted(session, who.execution_id)
        return False
    event_log.append(session, "execution.effect_recorded", f"execution:{who.execution_id}", payload={"key": key, "value": value})
    return True


def cancelled_among(session: Session, execution_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Return which of these executions were cancelled."""
    return list(session.scalars(select(Execution.id).where(Execution.id.in_(execution_ids), Execution.cancelled_at.is_not(None))))


def cancel(session: Session, execution_id: uuid.UUID, reason: str) -> bool:
    """Cancel an execution that has not ended: in the outbox, in a queue, or running; False if it has ended, or was cancelled before.

    What it has done stays done; nothing that it does after this commit has an effect. Who may ask for it is the caller's to know.
    """
    who = context(session)
    attempt = event_log.attempt(session)
    # First, because who sends it holds the entry and then wants the execution: in the other order each would wait for the other.
    session.execute(delete(OutboxEntry).where(OutboxEntry.execution_id == execution_id))
    if session.scalar(_CANCEL, {"id": execution_id, "task_id": str(execution_id), "actor": who.actor}) is None:
        # What has ended and is to be sent nevertheless keeps its entry.
        attempt.rollback()
        return False
    attempt.commit()
    event_log.append(session, "execution.cancelled", f"execution:{execution_id}", payload={"reason": reason})
    who.cancelled.append(execution_id)
    return True


def require_wanted(session: Session, execution_id: uuid.UUID) -> None:
    """Pass unless this execution was cancelled. Raises Cancelled."""
    if session.scalar(select(Execution.cancelled_at).where(Execution.id == execution_id)) is not None:
        raise Cancelled(f"execution {execution_id} was cancelled")


def tell(session: Session, completed: Mapping[str, Any]) -> None:
    """Append an event of the current execution, as `event_log.completed` has it, by one statement in no transaction of ours.

    It may be missing after a crash of PostgreSQL. Raises Cancelled if the execution was cancelled.
    """
    who = context(session)
    if session.execute(_TELL, {"id": who.execution_id, "setting": ACTOR_SETTING, **completed}).scalar_one():
        raise Cancelled(f"execution {who.execution_id} was cancelled")


def agent_task_of(session: Session, execution_id: uuid.UUID) -> uuid.UUID | None:
    """Return the task that an execution works for, if it works for one."""
    return session.scalar(select(Execution.agent_task_id).where(Execution.id == execution_id))


def tell_failure(session: Session, execution_id: uuid.UUID, *, error: str, node: str) -> None:
    """Append the event of a failed execution, for a part of the program; nothing for one that was not recorded, or whose failure was the last word.

    `error` is its kind alone: what it says may quote what is for nobody but who asked.
    """
    if session.scalar(_FAILED_NOW, {"id": execution_id, "stream": f"execution:{execution_id}"}):
        event_log.append(session, "execution.failed", f"execution:{execution_id}", payload={"error": error, "node": node})


def waiting_for(session: Session, execution_ids: Sequence[uuid.UUID]) -> str | None:
    """Return what the first of these executions that no live node can take waits for; None if none does."""
    query = text("SELECT waiting_for FROM outbox WHERE execution_id = ANY(:ids) AND waiting_for IS NOT NULL ORDER BY created_at LIMIT 1")
    found: str | None = session.scalar(query, {"ids": list(execution_ids)})
    return found
