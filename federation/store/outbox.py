"""Records executions with the transaction that wants them; they are sent after the commit, or by the sweep."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.store import event_log
from federation.store.context import context
from federation.store.models.executions import Execution, OutboxEntry

# Ids derived from what an execution is for make a second recording of it the same one.
_NAMESPACE = uuid.UUID("6f0d3f0e-7c0c-5a55-9a53-0f4d2f1c8b11")


def fixed_id(*parts: object) -> uuid.UUID:
    """Return the same id for the same parts, always."""
    return uuid.uuid5(_NAMESPACE, "/".join(str(part) for part in parts))


def record(
    session: Session,
    task_name: str,
    kwargs: Mapping[str, Any],
    *,
    requirements: Mapping[str, Any] | None = None,
    affinity: str | None = None,
    execution_id: uuid.UUID | None = None,
    agent_task_id: uuid.UUID | None = None,
    priority: int = 5,
) -> uuid.UUID:
    """Record an execution and its outbox entry; return its id. An id that is already recorded changes nothing.

    Executions of one `affinity` go to one node, unless it is overloaded.
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
        "actor": who.actor,
        "trace_id": who.trace_id,
    }
    # One statement, because two who ask for the same (beat and a caller, say) may do so at once.
    made = session.scalar(insert(Execution).values(**values).on_conflict_do_nothing().returning(Execution.id))
    if made is None:
        return identity
    session.execute(insert(OutboxEntry).values(execution_id=identity))
    payload = {"task_name": task_name, "requirements": dict(requirements or {}), "agent_task_id": agent_task_id}
    event_log.append(session, "execution.recorded", f"execution:{identity}", payload=payload)
    who.outbox.append(identity)
    return identity
