"""Hands out a task and tells of it those who may take it, or decide on it: what the doors call."""

from typing import Any

from sqlalchemy.orm import Session

from federation.services import announcements, approvals, tasks
from federation.store.context import context
from federation.store.models.tasks import AgentTask


def hand_out(session: Session, description: str, **terms: Any) -> AgentTask:
    """Record a task as `tasks.delegate` does with these terms, and tell of it once. Raises what that raises, and RateLimited."""
    task = tasks.delegate(session, description, **terms)
    # One that was there already has been announced by the call that made it.
    if task.trace_id == context(session).trace_id:
        if task.requires_approval:
            announcements.of_request(session, task, approvals.deciders(session, task))
        else:
            announcements.of_work(session, task)
    return task
