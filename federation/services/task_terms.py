"""What a task asks for beside its description, in one form: shown to who decides on it or does it, told in the event of the decision, and signed."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

from pydantic import Field

from federation.services import statements
from federation.store.models.tasks import AgentTask

TOLD = (
    "What it asks for beside its description, without what is empty: task_type, executor, priority, parameters (further inputs, which a node's model "
    "reads too), requirements (of whom or what does it), reserved_for (the one agent for whom it is), start_at."
)
Terms = Annotated[dict[str, Any], Field(description=TOLD)]
_COLUMNS = ("task_type", "executor", "priority", "parameters", "requirements", "reserved_for")


def parameters(given: Mapping[str, Any] | None, *, awaits_approval: bool) -> dict[str, Any]:
    """Return a new task's parameters. Raises InvalidInput for such as nobody could sign a decision on."""
    found = dict(given or {})
    if awaits_approval:
        statements.hashed({"parameters": found})
    return found


def terms(task: AgentTask) -> dict[str, Any]:
    """Return what a task asks for as JSON has it, without what is empty; nothing of it ever changes."""
    found: dict[str, Any] = {name: getattr(task, name) for name in _COLUMNS}
    # A connection's time zone is no part of it.
    found["start_at"] = task.start_at and task.start_at.astimezone(UTC).isoformat()
    return {name: value for name, value in found.items() if value}


def decided_on(task: AgentTask) -> dict[str, Any]:
    """Return what a decision on a task is about, which whoever signs it can read and hash."""
    return {"description": task.description, "terms": terms(task)}
