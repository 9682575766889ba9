"""Where a node's task stands, as the tools tell it."""

from sqlalchemy.orm import Session

from federation.mcp.waits import Standing, standing
from federation.services import outcomes
from federation.store.models.tasks import AgentTask


def standing_of(session: Session, task: AgentTask) -> Standing | None:
    """Return where the execution of a node's task stands; None for a task of agents."""
    execution_id = outcomes.of_task(session, task.id)
    return standing(session, execution_id) if execution_id else None
