"""Tells of a change of a task: one event in its stream, a notice to those who wait for it, and the statement of who did it."""

from typing import Any

from sqlalchemy.orm import Session

from federation.services import statements
from federation.store import event_log
from federation.store.context import notify
from federation.store.models.tasks import AgentTask

_ACTION_OVER = ("task.completed", "task.failed")


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
    if task.session_id is not None:
        notify(session, [f"session:{task.session_id}"])
        if event_type in _ACTION_OVER:
            _tell_session(session, task)


def _tell_session(session: Session, task: AgentTask) -> None:
    """Append that an action of a session was taken; last, as all that is told in a session's stream."""
    payload = {
        "action_id": task.id,
        "session_id": task.session_id,
        "agent_id": task.assigned_to,
        "status": task.status,
        "result": task.result,
    }
    event_log.append(
        session,
        "action.completed",
        f"session:{task.session_id}",
        payload=payload,
        conversation_id=task.conversation_id,
        session_id=task.session_id,
    )


def state(session: Session, action: str, task: AgentTask, *, besides: bool = False, **content: Any) -> None:
    """Have the caller state what he does with a task, before the event that tells of it. Raises as `statements.make`."""
    statements.make(session, action=action, subject=f"task:{task.id}", content=content, conversation_id=task.conversation_id, besides=besides)
