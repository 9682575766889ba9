"""Tells of a change of a task: one event in its stream, and a notice to those who wait for it."""

from typing import Any

from sqlalchemy.orm import Session

from federation.store import event_log
from federation.store.context import notify
from federation.store.models.tasks import AgentTask


def append(session: Session, event_type: str, task: AgentTask, **payload: Any) -> None:
    """Append an event with where the task stands now, and what is new of it."""
    event_log.append(
        session,
        event_type,
        f"task:{task.id}",
        payload={"task_id": task.id, "status": task.status, "assigned_to": task.assigned_to, **payload},
        conversation_id=task.conversation_id,
        session_id=task.session_id,
    )
    notify(session, [f"task:{task.id}"])
