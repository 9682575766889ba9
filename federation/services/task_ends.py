"""How tasks end: done, failed, cancelled with all their parts, or over their time; and how a node begins one."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, null, select, update
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.errors import Conflict
from federation.services import announcements, charter, claims, executions, statements, task_events, tasks
from federation.services.resources import of_task
from federation.store.among import none_of
from federation.store.context import context
from federation.store.models.executions import Execution
from federation.store.models.tasks import BEGUN, ENDED, AgentTask, TaskStatus

# Of what is over its time, at most so many in one look.
AT_ONCE = 200
_OVER = (AgentTask.expires_at <= func.clock_timestamp(), AgentTask.status.in_(BEGUN))
# Part of a query: whether there are any.
ANY_OVERDUE = select(AgentTask.id).where(*_OVER).exists()


def cancel(session: Session, reference: str, *, reason: str = "", conversation_id: str | None = None) -> AgentTask:
    """End a task that is not wanted any more: its claim, the execution that does it on a node, and its parts end with it.

    Cancelled again it is the task that is there. Raises Refused for one who neither delegated it nor may end it by the
    charter, Conflict for a task that ended otherwise.
    """
    task = tasks.find(session, reference, conversation_id=conversation_id)
    require_may_cancel(session, task)
    return end_unwanted(session, task, reason=reason)


def require_may_cancel(session: Session, task: AgentTask) -> None:
    """Pass if the caller may cancel a task: who delegated it, or whom the charter lets. Raises Refused."""
    if context(session).actor != task.created_by:
        instead = f"ask them, or {task.created_by}, who delegated task {task.slug or task.id}."
        charter.require(session, Right.CANCEL, instead=instead, where=task.conversation_id)


def end_unwanted(session: Session, task: AgentTask, *, reason: str) -> AgentTask:
    """Cancel a task and its parts for a caller whose right to do so was looked at before. Raises Conflict for a task that ended otherwise."""
    if not _cancelled(session, task, reason=reason):
        if task.status == TaskStatus.CANCELLED:
            return task
        raise Conflict(f"task {task.slug or task.id} is {task.status} already; read it with federation_task_result")
    end_parts(session, task)
    return task


def _cancelled(session: Session, task: AgentTask, *, reason: str, as_part: bool = False) -> bool:
    result = {"cancelled_by": context(session).actor, "reason": reason}
    if not _stopped(session, task, TaskStatus.CANCELLED, result, why=reason):
        return False
    # What ends because the whole has ended nobody states: it follows from what was stated of that.
    if not as_part:
        task_events.state(session, "task.cancel", task, result=result)
    task_events.append(session, "task.cancelled", task, result=result)
    return True


def _stopped(
    session: Session, task: AgentTask, status: TaskStatus, result: Mapping[str, Any], *, why: str, only_if: Sequence[ColumnElement[bool]] = ()
) -> bool:
    """End a task wherever it is; False if it had ended, or what is asked for is not so."""
    # Before the task, which who claims it locks after the claim.
    claims.revoke(session, of_task(task.id))
    # Waits for who approves it at this moment, so that the execution which he records is found; nobody works yet on what awaits approval.
    session.execute(select(AgentTask.id).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.AWAITING_APPROVAL).with_for_update())
    # Before the task too, as who works on it.
    for execution_id in executions.of_task(session, task.id):
        executions.cancel(session, execution_id, why)
    ended = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.not_in(ENDED), *only_if)
        .values(status=status, result=dict(result), completed_at=func.clock_timestamp())
        .returning(AgentTask.id)
    )
    session.refresh(task)
    return ended is not None


def end_parts(session: Session, task: AgentTask) -> None:
    """Cancel what has not ended of the parts of a task that has ended, and of theirs, from the top down; call it after the end is written."""
    wholes = [task]
    while wholes:
        whole = wholes.pop()
        reason = f"task {whole.slug or whole.id}, of which it is a part, is {whole.status}"
        parts = select(AgentTask).where(AgentTask.parent_id == whole.id, AgentTask.status.not_in(ENDED)).order_by(AgentTask.created_at)
        wholes += [part for part in session.scalars(parts).all() if _cancelled(session, part, reason=reason, as_part=True)]


def overdue(session: Session, *, but: Collection[uuid.UUID] = ()) -> Sequence[uuid.UUID]:
    """Return the tasks whose time is over, but for these, for beat."""
    query = select(AgentTask.id).where(*_OVER, none_of(AgentTask.id, but))
    return session.scalars(query.order_by(AgentTask.expires_at).limit(AT_ONCE)).all()


def expire(session: Session, task_id: uuid.UUID) -> bool:
    """End a task whose time is over, with its parts, and tell who waits for it; False if it has ended or has time."""
    task = session.get_one(AgentTask, task_id)
    if session.scalar(select(AgentTask.id).where(AgentTask.id == task_id, *_OVER)) is None:
        return False
    result = {"error": f"it was not done within the {task.timeout_s:g} s that it had"}
    if not _stopped(session, task, TaskStatus.EXPIRED, result, why=result["error"], only_if=_OVER):
        return False
    task_events.append(session, "task.expired", task, result=result)
    end_parts(session, task)
    announcements.of_expiry(session, task)
    return True


def cancel_execution(session: Session, execution: Execution, *, reason: str) -> bool:
    """Cancel an execution, and the task that it works for with it; False if it had ended. Whether the caller may is theirs to know."""
    task = None if execution.agent_task_id is None else session.get(AgentTask, execution.agent_task_id)
    if task is None or task.status in ENDED:
        if not executions.cancel(session, execution.id, reason):
            return False
        statements.make(session, action="execution.cancel", subject=f"execution:{execution.id}", content={"reason": reason})
        return True
    return end_unwanted(session, task, reason=reason).status == TaskStatus.CANCELLED


def reopen(session: Session, task_id: uuid.UUID) -> None:
    """Let a node's task that failed be done again by its execution; does nothing for one that ended otherwise."""
    task = session.scalars(
        update(AgentTask)
        .where(AgentTask.id == task_id, AgentTask.status == TaskStatus.FAILED)
        .values(result=null(), completed_at=None, **tasks.at_first(None))
        .returning(AgentTask)
    ).one_or_none()
    if task is not None:
        task_events.append(session, "task.reopened", task)


def start_on_node(session: Session, task_id: uuid.UUID, node: str) -> AgentTask | None:
    """Mark a node's task as running there and return it; None if it has ended meanwhile, or may not begin."""
    task = session.scalars(
        update(AgentTask)
        .where(AgentTask.id == task_id, AgentTask.status.in_(BEGUN))
        .values(status=TaskStatus.RUNNING, assigned_to=node)
        .returning(AgentTask)
    ).one_or_none()
    if task is not None:
        task_events.append(session, "task.assigned", task, agent_id=node)
    return task


def ended(session: Session, task_id: uuid.UUID) -> dict[str, Any]:
    """Return the result of a task that has ended, with its status where there is none."""
    task = session.get_one(AgentTask, task_id)
    return task.result or {"status": task.status}


def end_on_node(session: Session, task_id: uuid.UUID, *, result: Mapping[str, Any], success: bool = True) -> bool:
    """Record what a node made of its task; False if the task had ended already, or may not begin, which changes nothing."""
    task = session.get(AgentTask, task_id, with_for_update=True)
    if task is None or task.status not in BEGUN:
        return False
    end(session, task, TaskStatus.COMPLETED if success else TaskStatus.FAILED, dict(result))
    return True


def end(session: Session, task: AgentTask, status: TaskStatus, result: dict[str, Any]) -> None:
    """Record what came of a task, for a caller whose right to do so was looked at before. Raises Conflict for one that has ended.

    What failed takes its open parts with it.
    """
    ended = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.in_(BEGUN))
        .values(status=status, result=result, completed_at=func.clock_timestamp())
        .returning(AgentTask.id)
    )
    if ended is None:
        raise Conflict(f"task {task.id} has ended already")
    session.refresh(task)
    task_events.append(session, "task.completed" if status is TaskStatus.COMPLETED else "task.failed", task, result=result)
    if status is TaskStatus.FAILED:
        end_parts(session, task)
