"""Records executions with the transaction that wants them, and what those that cannot be sent wait for; sends none."""

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.store import event_log
from federation.store.context import Unsent, context, notify
from federation.store.models.executions import Execution, OutboxEntry

# One statement, because two who ask for the same (beat and a caller, say) may do so at once; and as text, because every request records one.
_RECORD = text(
    """
    WITH made AS (
        INSERT INTO executions (id, task_name, kwargs, requirements, affinity, priority, agent_task_id, conversation_id, due_at, actor, trace_id)
        VALUES (
            :id, :task_name, CAST(:kwargs AS jsonb), CAST(:requirements AS jsonb),
            :affinity, :priority, :agent_task_id, :conversation_id, :due_at, :actor, :trace_id
        )
        ON CONFLICT DO NOTHING
        RETURNING id, encode(sha256(convert_to(kwargs::text, 'UTF8')), 'hex') AS digest
    ), waiting AS (
        INSERT INTO outbox (execution_id) SELECT id FROM made
    )
    SELECT digest FROM made
    """
)

# Who sends an entry at this moment holds its row; it is not waited for.
_UNSENT = text(
    """
    UPDATE outbox SET waiting_for = looked.reason, attempts = outbox.attempts + :tries, tried_at = clock_timestamp(), updated_by = :actor
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS looked(id, reason) JOIN executions ON executions.id = looked.id
    WHERE outbox.execution_id = looked.id
        AND outbox.execution_id IN (SELECT execution_id FROM outbox WHERE execution_id = ANY(CAST(:ids AS uuid[])) FOR UPDATE SKIP LOCKED)
    RETURNING new.execution_id, new.waiting_for, executions.trace_id, old.waiting_for IS NULL AND new.waiting_for IS NOT NULL AS parked
    """
)


def record(
    session: Session,
    task_name: str,
    kwargs: Mapping[str, Any],
    *,
    requirements: Mapping[str, Any] | None = None,
    affinity: str | None = None,
    execution_id: uuid.UUID | None = None,
    agent_task_id: uuid.UUID | None = None,
    conversation_id: str | None = None,
    priority: int = 5,
    due_at: datetime | None = None,
) -> uuid.UUID:
    """Record an execution and its outbox entry; return its id. An id that is already recorded changes nothing.

    Who asks for it sees how it goes, and so do the members of `conversation_id`. Executions of one `affinity` go to one node, unless it is
    overloaded. One with a time is unplaced until `due_at`.
    """
    who = context(session)
    identity = execution_id or uuid.uuid4()
    values = {
        "id": identity,
        "task_name": task_name,
        "kwargs": dict(kwargs),
        "requirements": dict(requirements or {}),
        "affinity": affinity,
        "priority": priority,
        "agent_task_id": agent_task_id,
        "conversation_id": conversation_id,
        "due_at": due_at,
        "actor": who.actor,
        "trace_id": who.trace_id,
    }
    session.flush()  # the task that it is for may be new
    written = {**values, "kwargs": json.dumps(values["kwargs"]), "requirements": json.dumps(values["requirements"])}
    made = session.scalar(_RECORD, written)
    if made is None:
        return identity
    told = {name: values[name] for name in ("task_name", "requirements", "affinity", "priority", "agent_task_id", "conversation_id", "due_at")}
    # Not the arguments themselves: the log may be read by more than those whom they are for.
    payload = {**told, "kwargs_sha256": made}
    event_log.append(session, "execution.recorded", f"execution:{identity}", payload=payload)
    # What has a time is sent by the sweep, when it is due.
    if due_at is None:
        who.outbox.append(Unsent(identity, dict(requirements or {}), affinity))
    return identity


def parked_key(execution_id: uuid.UUID) -> str:
    """Return the notice that an execution waits for something that is not there."""
    return f"parked:{execution_id}"


def record_unsent(session: Session, reasons: Mapping[uuid.UUID, str | None], *, tries: int = 0) -> None:
    """Note what executions wait for that cannot be sent now (None: for ActiveMQ), after so many tries in vain.

    The first such note is an event; the next ones say only that it was looked at again.
    """
    values = {"ids": list(reasons), "reasons": list(reasons.values()), "tries": tries, "actor": context(session).actor}
    for row in session.execute(_UNSENT, values).all():
        if row.parked:
            payload = {"waiting_for": row.waiting_for}
            event_log.append(session, "execution.parked", f"execution:{row.execution_id}", payload=payload, trace_id=row.trace_id)
            notify(session, [parked_key(row.execution_id)])


def take_back(session: Session, execution: Execution, waiting_for: str) -> None:
    """Have an execution that was sent to a node, which is gone or cannot do it any more, placed anew; its tries begin anew too."""
    payload = {"from": execution.node, "waiting_for": waiting_for}
    session.execute(update(Execution).where(Execution.id == execution.id).values(node=None, sent_at=None))
    event_log.append(session, "execution.moved", f"execution:{execution.id}", payload=payload, trace_id=execution.trace_id)
    put_back(session, execution.id, waiting_for)


def put_back(session: Session, execution_id: uuid.UUID, waiting_for: str | None) -> None:
    """Let an execution that was sent before wait in the outbox again; the caller tells of it by an event of its own."""
    values = {"execution_id": execution_id, "waiting_for": waiting_for, "updated_by": context(session).actor}
    statement = insert(OutboxEntry).values(**values)
    session.execute(statement.on_conflict_do_update(index_elements=["execution_id"], set_=values))
