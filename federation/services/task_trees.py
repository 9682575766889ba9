"""Tasks and their parts: how far the whole is follows from the parts, and is stored nowhere."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation.errors import Conflict
from federation.store.models.tasks import ENDED, AgentTask, TaskStatus

# Of one tree at most so many parts are looked at.
MOST = 1_000
_LONGEST_SHOWN = 80
_BELOW = text(
    """
    WITH RECURSIVE below AS (
        SELECT id, parent_id, slug, description, status, assigned_to, created_at, 1 AS level FROM agent_tasks WHERE parent_id = :id
        UNION ALL
        SELECT t.id, t.parent_id, t.slug, t.description, t.status, t.assigned_to, t.created_at, below.level + 1
        FROM agent_tasks t JOIN below ON t.parent_id = below.id
    )
    SELECT * FROM below ORDER BY level, created_at, id LIMIT :most
    """
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a task, or of one of its parts."""

    task_id: uuid.UUID
    slug: str | None
    level: Annotated[int, Field(description="1: a part of the task itself, 2: a part of the one above it with 1, and so on.")]
    description: Annotated[str, Field(description="How it begins.")]
    state: TaskStatus
    overall: Annotated[TaskStatus, Field(description="How far it is with its parts.")]
    assigned_to: str | None


@dataclass(frozen=True, slots=True)
class Tree:
    """What a task consists of: each part before its own parts; `overall` is how far all of it is."""

    overall: TaskStatus
    parts: Sequence[Part]


def rolled_up(own: TaskStatus, below: Sequence[TaskStatus]) -> TaskStatus:
    """Return how far a task is, from where it stands itself and how far its parts are.

    Its own end counts. Before that: running as soon as any part has begun and not all have ended; then failed if one failed or expired, completed
    if one was completed, else cancelled.
    """
    if own in ENDED or not below:
        return own
    if any(each not in ENDED for each in below):
        begun = any(each is TaskStatus.RUNNING or each in ENDED for each in below)
        return TaskStatus.RUNNING if begun else own
    if any(each in {TaskStatus.FAILED, TaskStatus.EXPIRED} for each in below):
        return TaskStatus.FAILED
    return TaskStatus.COMPLETED if TaskStatus.COMPLETED in below else TaskStatus.CANCELLED


def tree(session: Session, task: AgentTask) -> Tree:
    """Return what a task consists of."""
    rows = session.execute(_BELOW, {"id": task.id, "most": MOST}).mappings().all()
    of: dict[uuid.UUID, list[Mapping[str, Any]]] = {}
    for row in rows:
        of.setdefault(row["parent_id"], []).append(dict(row))
    overall: dict[uuid.UUID, TaskStatus] = {}
    # From the bottom up: they come by levels.
    for row in reversed(rows):
        overall[row["id"]] = rolled_up(TaskStatus(row["status"]), [overall[part["id"]] for part in of.get(row["id"], ())])
    parts = []
    ahead = of.get(task.id, [])[::-1]
    while ahead:
        part = ahead.pop()
        parts.append(_shown(part, overall[part["id"]]))
        ahead += of.get(part["id"], [])[::-1]
    own = rolled_up(TaskStatus(task.status), [overall[part["id"]] for part in of.get(task.id, ())])
    return Tree(own, parts)


def _shown(row: Mapping[str, Any], overall: TaskStatus) -> Part:
    line = " ".join(row["description"].split())
    short = line if len(line) <= _LONGEST_SHOWN else line[: _LONGEST_SHOWN - 1] + "…"
    return Part(row["id"], row["slug"], row["level"], short, TaskStatus(row["status"]), overall, row["assigned_to"])


def require_done(session: Session, task: AgentTask) -> None:
    """Pass if all parts of a task have ended, and let it get no more before the commit. Raises Conflict."""
    session.execute(select(AgentTask.id).where(AgentTask.id == task.id).with_for_update())
    parts = select(AgentTask).where(AgentTask.parent_id == task.id, AgentTask.status.not_in(ENDED)).order_by(AgentTask.created_at).limit(4)
    still = [f"{part.slug or part.id} ({part.status})" for part in session.scalars(parts)]
    if still:
        more = " and more" if len(still) > 3 else ""
        raise Conflict(
            f"task {task.slug or task.id} has parts that have not ended: {', '.join(still[:3])}{more}; wait for them with federation_task_result, "
            "or cancel them with federation_cancel_task"
        )
