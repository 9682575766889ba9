"""What the event and the outbox entry of a recorded execution cost: the same rows with and without them, one transaction each."""

import time
import uuid
from collections.abc import Callable

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.store import outbox
from federation.store.context import context
from federation.store.models.executions import Execution
from federation.transaction import Transactions

TASK, KWARGS, NEEDS = "benchmarks.nothing", {"text": "x" * 200}, {"role": "developer"}


def with_event_and_outbox(session: Session) -> None:
    """Record an execution as the doors do."""
    outbox.record(session, TASK, KWARGS, requirements=NEEDS)


def row_alone(session: Session) -> None:
    """Write the same row, and nothing that tells of it."""
    who = context(session)
    values = {"task_name": TASK, "kwargs": KWARGS, "requirements": NEEDS, "priority": 5, "actor": who.actor, "trace_id": who.trace_id}
    session.execute(insert(Execution).values(id=uuid.uuid4(), **values).on_conflict_do_nothing().returning(Execution.id))


def rate(transactions: Transactions, write: Callable[[Session], None], count: int) -> float:
    """Return transactions a second."""
    began = time.perf_counter()
    for _ in range(count):
        with transactions.begin("cli:benchmark") as session:
            write(session)
    return count / (time.perf_counter() - began)
