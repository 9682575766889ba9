"""Tasks of all conversations, for an operator."""

from collections.abc import Collection

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from federation.store.models.tasks import AgentTask


def anywhere(session: Session, reference: str) -> list[AgentTask]:
    """Return the tasks of this id or name."""
    of_it = (AgentTask.slug == reference) | (cast(AgentTask.id, Text) == reference.lower())
    return list(session.scalars(select(AgentTask).where(of_it).order_by(AgentTask.created_at)))


def latest(session: Session, *, statuses: Collection[str] = (), limit: int = 50) -> list[AgentTask]:
    """Return the latest tasks, the newest first."""
    query = select(AgentTask).order_by(AgentTask.created_at.desc()).limit(limit)
    return list(session.scalars(query.where(AgentTask.status.in_(statuses)) if statuses else query))
