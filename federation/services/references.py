"""What a caller means by an id: a task that it may see, or an execution that it asked for."""

import uuid

from sqlalchemy.orm import Session

from federation.errors import NotFound
from federation.services import outcomes, tasks
from federation.store.models.executions import Execution
from federation.store.models.tasks import AgentTask


def located(session: Session, reference: str, conversation_id: str | None) -> AgentTask | Execution:
    """Return a task that the caller may see, or an execution that it asked for. Raises NotFound with the nearest names."""
    try:
        return tasks.find(session, reference, conversation_id=conversation_id)
    except NotFound as not_a_task:
        try:
            return outcomes.require_asker(session, uuid.UUID(reference))
        except (ValueError, NotFound):
            raise not_a_task from None
