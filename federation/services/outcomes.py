"""What executions came to, for those who asked for them; a stranger learns not even that they exist."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation import errors
from federation.errors import NotFound
from federation.services.executions import FINISHED, ExecutionView, State
from federation.store.context import context
from federation.store.models.executions import Execution

# As text, because the tables of the result backend belong to a package of its own. Results go some day; how it ended stays.
_ENDED = text(
    """
    SELECT CASE WHEN e.cancelled_at IS NOT NULL THEN 'REVOKED' ELSE coalesce(r.state, e.outcome) END AS state, r.result, r.task_id IS NOT NULL AS kept
    FROM (SELECT CAST(:id AS uuid) AS id, CAST(:id AS text) AS task_id) asked
    LEFT JOIN celery_results r ON r.task_id = asked.task_id
    LEFT JOIN executions e ON e.id = asked.id
    WHERE e.cancelled_at IS NOT NULL OR coalesce(r.state, e.outcome) IN ('SUCCESS', 'FAILURE', 'REVOKED')
    """
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an execution: a value, or an error in words that its asker may read; what it said is not kept for ever."""

    execution_id: uuid.UUID
    succeeded: bool
    value: Any
    error: str | None
    kept: bool = True


def require_asker(session: Session, execution_id: uuid.UUID) -> Execution:
    """Return an execution that the caller asked for. Raises NotFound for any other."""
    execution = session.get(Execution, execution_id)
    if execution is None or execution.actor != context(session).actor:
        raise NotFound("execution", str(execution_id), _mine(session))
    return execution


def _mine(session: Session) -> list[str]:
    query = select(Execution.id).where(Execution.actor == context(session).actor).order_by(Execution.created_at.desc()).limit(3)
    return [str(identity) for identity in session.scalars(query)]


def ended(session: Session, execution_id: uuid.UUID) -> Outcome | None:
    """Return what an execution came to, for a caller whose right to know was looked at before; None before its end."""
    row = session.execute(_ENDED, {"id": str(execution_id)}).one_or_none()
    if row is None:
        return None
    value = json.loads(row.result) if row.result is not None else None
    if row.state == "SUCCESS":
        return Outcome(execution_id, True, value, None, row.kept)
    if row.state == "REVOKED":
        return Outcome(execution_id, False, None, f"execution {execution_id} was cancelled; ask again if it is still wanted")
    return Outcome(execution_id, False, None, _in_words(execution_id, value), row.kept)


def of(session: Session, view: ExecutionView) -> Outcome | None:
    """Return what an execution came to that was just looked at, for a caller whose right to know was; None before its end."""
    # What succeeded was read with its state.
    if view.state is State.COMPLETED:
        return Outcome(view.id, True, view.value, None, view.kept)
    return ended(session, view.id) if view.state in FINISHED else None


def first_failure(session: Session, execution_ids: Sequence[uuid.UUID]) -> Outcome | None:
    """Return how the first of these executions failed, None if none did; for a caller whose right to know was looked at before."""
    failed = text("SELECT task_id FROM celery_results WHERE task_id = ANY(:ids) AND state = 'FAILURE' ORDER BY date_done LIMIT 1")
    found = session.scalar(failed, {"ids": [str(identity) for identity in execution_ids]})
    return None if found is None else ended(session, uuid.UUID(found))


def _in_words(execution_id: uuid.UUID, stored: Any) -> str:
    # Our own errors are written for their readers; any other may quote what only operators should see.
    name, module, message = (stored.get(key) for key in ("exc_type", "exc_module", "exc_message")) if isinstance(stored, dict) else (None, None, None)
    if module == errors.__name__:
        return " ".join(str(part) for part in message) if isinstance(message, list | tuple) else str(message)
    return f"execution {execution_id} failed with {name or 'an error'}; the worker's log and Flower tell more"


def of_task(session: Session, task_id: uuid.UUID) -> uuid.UUID | None:
    """Return the execution that does a task on a node; None for a task of agents."""
    return session.scalar(select(Execution.id).where(Execution.agent_task_id == task_id).order_by(Execution.created_at.desc()).limit(1))
