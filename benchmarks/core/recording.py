"""What the event and the outbox entry of a recorded execution cost: the same rows with and without them, one transaction each."""

import json
import time
import uuid
from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.store import outbox
from federation.store.context import context
from federation.transaction import Transactions

TASK, KWARGS, NEEDS = "benchmarks.nothing", {"text": "x" * 200}, {"role": "developer"}

_ROW = text(
    """
    INSERT INTO executions (id, task_name, kwargs, requirements, affinity, priority, agent_task_id, due_at, actor, trace_id)
    VALUES (:id, :task_name, CAST(:kwargs AS jsonb), CAST(:requirements AS jsonb), NULL, 5, NULL, NULL, :actor, :trace_id)
    ON CONFLICT DO NOTHING RETURNING id
    """
)


def with_event_and_outbox(session: Session) -> None:
    """Record an execution as the doors do."""
    outbox.record(session, TASK, KWARGS, requirements=NEEDS)


def row_alone(session: Session) -> None:
    """Write the same row, and nothing that tells of it."""
    who = context(session)
    values = {"task_name": TASK, "kwargs": json.dumps(KWARGS), "requirements": json.dumps(NEEDS), "actor": who.actor, "trace_id": who.trace_id}
    session.execute(_ROW, {"id": uuid.uuid4(), **values}).one()


def rate(transactions: Transactions, write: Callable[[Session], None], count: int) -> float:
    """Return transactions a second."""
    began = time.perf_counter()
    for _ in range(count):
        with transactions.begin("cli:benchmark") as session:
            write(session)
    return count / (time.perf_counter() - began)
