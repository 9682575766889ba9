"""A question to a model with its answer, kept as a memory: of what the caller asked himself, and only what was answered to the end."""

import uuid

from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.services import inference
from federation.store.models.executions import Execution

LENGTH = "length"


def pair(session: Session, execution_id: uuid.UUID) -> str:
    """Return a question of the caller's with its answer as one text; one that a schema was given for fits it, or it were not recorded.

    Raises NotFound for what is nobody's or another's question, InvalidInput for an answer that is not there, is empty or was cut off.
    """
    asked, run = session.get(Execution, execution_id), inference.recorded(session, execution_id)
    if asked is None or asked.task_name != inference.COMPLETE:
        raise NotFound("answer", str(execution_id))
    if run is None:
        raise InvalidInput("answer", str(execution_id), "a question that was answered; read it with federation_task_result")
    if run.finish_reason == LENGTH or not run.completion.strip():
        was = "cut off by max_tokens" if run.finish_reason == LENGTH else "empty"
        raise InvalidInput("answer", f"one that was {was}", "an answer that is whole; ask anew, for more tokens")
    question = asked.kwargs["messages"][-1]["content"]
    return f"Asked: {question.strip()}\nAnswered by {run.model}: {run.completion.strip()}"
