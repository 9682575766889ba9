"""Ends the task behind an execution that failed, so that nobody waits for it; decides nothing about the execution itself."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from federation.services import executions, task_ends


def fail_task_of(session: Session, execution_id: uuid.UUID, result: Mapping[str, Any]) -> None:
    """Record that the task that an execution works for has failed; does nothing if there is none or if it has ended."""
    task_id = executions.agent_task_of(session, execution_id)
    if task_id is not None:
        task_ends.end_on_node(session, task_id, result=result, success=False)
