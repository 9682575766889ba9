"""Tasks: delegated to agents or to a node, claimed, completed; each change of status is one statement and one event."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import agents, claims, conversations
from federation.services.inference import ENGINE as ANSWERING
from federation.services.names import valid_slug
from federation.services.needs import valid
from federation.services.summaries import ENGINE as EXTRACTING
from federation.store import event_log, outbox
from federation.store.context import context, notify
from federation.store.models.conversations import Member
from federation.store.models.tasks import ENDED, AgentTask, Executor, TaskStatus, TaskType

RUN_ON_NODE = "federation.tasks.delegation.run"
CLAIM = "federation.tasks.claims.claim_task"
# What a node needs to do each kind of work: reports are extracted, the rest is answered by a model.
ENGINES = {each: EXTRACTING if each is TaskType.REPORT else ANSWERING for each in TaskType}


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as its readers see it."""

    task_id: uuid.UUID
    slug: str | None
    conversation_id: str
    description: str
    task_type: str
    executor: str
    assigned_to: str | None
    status: str
    priority: int
    result: dict[str, Any] | None
    created_by: str
    created_at: datetime
    completed_at: datetime | None


def delegate(
    session: Session,
    description: str,
    *,
    task_type: str = TaskType.INVESTIGATE,
    executor: str = Executor.AGENT,
    agent: str | None = None,
    requirements: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    priority: int = 5,
    conversation_id: str | None = None,
    slug: str | None = None,
) -> AgentTask:
    """Record a task, and for a node the execution that will do it.

    Raises NotFound for an unknown agent, role, node or conversation, Conflict for a slug that is taken, InvalidInput.
    """
    agents.require(description, "description")
    if task_type not in set(TaskType):
        raise InvalidInput("task_type", task_type, "one of " + ", ".join(TaskType))
    if not 1 <= priority <= 10:
        raise InvalidInput("priority", priority, "1 (can wait) to 10 (first)")
    needs = valid(session, requirements or {})
    if executor == Executor.NODE and needs.engine is None:
        needs = needs.model_copy(update={"engine": ENGINES[TaskType(task_type)]})
    if agent is not None:
        agents.get(session, agent)
    conversation_id = conversation_id or conversations.COMMONS
    conversations.open_for(session, conversation_id, [agent] if agent else [])
    if slug is not None and session.scalar(
        select(AgentTask.id).where(AgentTask.conversation_id == conversation_id, AgentTask.slug == valid_slug("task_id", slug))
    ):
        raise Conflict(f"task {slug!r} exists in conversation {conversation_id} already; choose another id or look at it with federation_task_status")
    task = AgentTask(
        id=uuid.uuid4(),
        conversation_id=conversation_id,
        slug=slug,
        description=description,
        task_type=task_type,
        parameters=dict(parameters or {}),
        priority=priority,
        executor=executor,
        requirements=needs.model_dump(exclude_defaults=True),
        assigned_to=agent,
        reserved_for=agent,
        status=TaskStatus.ASSIGNED if agent else TaskStatus.PENDING,
        created_by=context(session).actor,
        trace_id=context(session).trace_id,
    )
    session.add(task)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(_taken(slug, conversation_id)) from error
    _event(session, "task.created", task, type=task_type, parameters=task.parameters, executor=executor, requirements=task.requirements)
    if agent is not None:
        _event(session, "task.assigned", task, agent_id=agent)
    if executor == Executor.NODE:
        outbox.record(session, RUN_ON_NODE, {"task_id": str(task.id)}, requirements=task.requirements, agent_task_id=task.id, priority=priority)
    return task


def _taken(slug: str | None, conversation_id: str) -> str:
    return f"task {slug!r} exists in conversation {conversation_id} already; choose another id or look at it with federation_task_status"


def find(session: Session, reference: str, *, conversation_id: str | None = None) -> AgentTask:
    """Return the task of this UUID or slug that the caller may see.

    Raises NotFound with the nearest names, Conflict for a slug that stands in several conversations.
    """
    try:
        by_id = session.get(AgentTask, uuid.UUID(reference))
    except ValueError:
        by_id = None
    # A caller may have chosen a slug that looks like a UUID.
    by_slug = session.scalars(select(AgentTask).where(AgentTask.slug == reference))
    found = [by_id] if by_id is not None else [task for task in by_slug if conversation_id in (None, task.conversation_id)]
    visible = [task for task in found if _visible(session, task)]
    if not visible:
        slugs = session.scalars(
            select(AgentTask.slug).where(AgentTask.slug.is_not(None), AgentTask.conversation_id.in_(_my_conversations(session))).limit(1000)
        )
        raise NotFound("task", reference, [slug for slug in slugs if slug])
    if len(visible) > 1:
        raise Conflict(
            f"task {reference!r} stands in several conversations: {', '.join(task.conversation_id for task in visible)}; name conversation_id too"
        )
    return visible[0]


def _my_conversations(session: Session) -> list[str]:
    mine = select(Member.conversation_id).where(Member.agent == context(session).actor)
    return [*session.scalars(mine), conversations.COMMONS]


def _visible(session: Session, task: AgentTask) -> bool:
    return task.conversation_id in _my_conversations(session)


def view(task: AgentTask) -> TaskView:
    """Return a task as a value."""
    return TaskView(
        task.id,
        task.slug,
        task.conversation_id,
        task.description,
        task.task_type,
        task.executor,
        task.assigned_to,
        task.status,
        task.priority,
        task.result,
        task.created_by,
        task.created_at,
        task.completed_at,
    )


def request_claim(session: Session, reference: str, *, description: str, ttl_s: float, conversation_id: str | None = None) -> uuid.UUID:
    """Record the execution that claims a task for the calling agent; return its id. Raises NotFound."""
    task = find(session, reference, conversation_id=conversation_id)
    return outbox.record(session, CLAIM, {"task_id": str(task.id), "description": description, "ttl_s": ttl_s}, priority=10)


def claim(session: Session, reference: str, *, description: str, ttl_s: float, conversation_id: str | None = None) -> claims.ClaimOutcome:
    """Claim a task for the calling agent; the winner is its assignee and it counts as running.

    Raises Conflict for a task that has ended, Refused for one that is a node's or another agent's.
    """
    task = find(session, reference, conversation_id=conversation_id)
    actor = context(session).actor
    if task.executor != Executor.AGENT:
        raise Refused(
            "Explicit assignment prevents duplicate work:", f"task {reference} runs on a node; read its result with federation_task_result."
        )
    wanted = task.requirements.get("role")
    if wanted is not None and agents.get(session, actor).role != wanted:
        raise Refused(
            "Explicit assignment prevents duplicate work:", f"task {reference} is for the role {wanted}; leave it to an agent of that role."
        )
    outcome = claims.claim(session, _resource(task.id), description=description, ttl_s=ttl_s)
    if not outcome.claimed or outcome.again:
        return outcome
    taken = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.not_in(ENDED))
        .where(AgentTask.reserved_for.is_(None) | (AgentTask.reserved_for == actor))
        .values(status=TaskStatus.RUNNING, assigned_to=actor)
        .returning(AgentTask.id)
    )
    session.refresh(task)
    if taken is None:
        if task.status in ENDED:
            raise Conflict(f"task {reference} is {task.status} already; read it with federation_task_result")
        raise Refused("Explicit assignment prevents duplicate work:", f"task {reference} is assigned to {task.reserved_for}; leave it to them.")
    _event(session, "task.claimed", task, agent_id=actor, fencing_token=outcome.fencing_token)
    return outcome


def release(session: Session, reference: str, *, conversation_id: str | None = None) -> bool:
    """Give back a task that the caller holds, so that others may claim it; False if the caller does not hold it."""
    task = find(session, reference, conversation_id=conversation_id)
    if not claims.release(session, _resource(task.id)):
        return False
    back = {"status": TaskStatus.ASSIGNED if task.reserved_for else TaskStatus.PENDING, "assigned_to": task.reserved_for}
    session.execute(update(AgentTask).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.RUNNING).values(**back))
    _event(session, "task.released", task)
    return True


def complete(
    session: Session, reference: str, *, fencing_token: int, result: Mapping[str, Any], success: bool = True, conversation_id: str | None = None
) -> AgentTask:
    """Record the result of a task that the caller holds with the current fencing token.

    Raises Refused for anyone else, Conflict for a task that has ended.
    """
    task = find(session, reference, conversation_id=conversation_id)
    if task.status in ENDED:
        raise Conflict(f"task {reference} is {task.status} already")
    claims.require(session, _resource(task.id), fencing_token)
    _end(session, task, TaskStatus.COMPLETED if success else TaskStatus.FAILED, dict(result))
    claims.release(session, _resource(task.id))
    return task


def start_on_node(session: Session, task_id: uuid.UUID, node: str) -> AgentTask | None:
    """Mark a node's task as running there and return it; None if it has ended meanwhile."""
    task = session.scalars(
        update(AgentTask)
        .where(AgentTask.id == task_id, AgentTask.status.not_in(ENDED))
        .values(status=TaskStatus.RUNNING, assigned_to=node)
        .returning(AgentTask)
    ).one_or_none()
    if task is not None:
        _event(session, "task.assigned", task, agent_id=node)
    return task


def ended(session: Session, task_id: uuid.UUID) -> dict[str, Any]:
    """Return the result of a task that has ended, with its status where there is none."""
    task = session.get_one(AgentTask, task_id)
    return task.result or {"status": task.status}


def end_on_node(session: Session, task_id: uuid.UUID, *, result: Mapping[str, Any], success: bool = True) -> bool:
    """Record what a node made of its task; False if the task had ended already, which changes nothing."""
    task = session.get(AgentTask, task_id, with_for_update=True)
    if task is None or task.status in ENDED:
        return False
    _end(session, task, TaskStatus.COMPLETED if success else TaskStatus.FAILED, dict(result))
    return True


def _end(session: Session, task: AgentTask, status: TaskStatus, result: dict[str, Any]) -> None:
    ended = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.not_in(ENDED))
        .values(status=status, result=result, completed_at=func.clock_timestamp())
        .returning(AgentTask.id)
    )
    if ended is None:
        raise Conflict(f"task {task.id} has ended already")
    session.refresh(task)
    _event(session, "task.completed" if status is TaskStatus.COMPLETED else "task.failed", task, result=result)


def _resource(task_id: uuid.UUID) -> str:
    return f"task:{task_id}"


def _event(session: Session, event_type: str, task: AgentTask, **payload: Any) -> None:
    event_log.append(
        session,
        event_type,
        f"task:{task.id}",
        payload={"task_id": task.id, **payload},
        conversation_id=task.conversation_id,
        session_id=task.session_id,
    )
    notify(session, [f"task:{task.id}"])
