"""Tells that an execution has failed, and ends the task behind it, so that nobody waits for it; decides nothing about the execution itself."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from federation.services import executions, task_ends


def fail(session: Session, execution_id: uuid.UUID, kind: str, result: Mapping[str, Any]) -> None:
    """Record that an execution has failed, with what kind of error and on which node, and with it its task, if it works for one."""
    executions.tell_failure(session, execution_id, error=kind, node=result["node"])
    fail_task_of(session, execution_id, result)


def fail_task_of(session: Session, execution_id: uuid.UUID, result: Mapping[str, Any]) -> None:
    """Record that the task that an execution works for has failed; does nothing if there is none or if it has ended."""
    task_id = executions.agent_task_of(session, execution_id)
    if task_id is not None:
        task_ends.end_on_node(session, task_id, result=result, success=False)
