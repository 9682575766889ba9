"""Tasks: delegated to agents, persons or a node, alone or as parts of others, and found again; how they are claimed and end is told elsewhere."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.errors import Conflict, InvalidInput, NotFound
from federation.placement.requirements import Requirements
from federation.services import agents, charter, conversations, inference, limits, phases, retrieval, statements, task_events, task_terms
from federation.services.names import valid_slug
from federation.services.needs import valid
from federation.services.summaries import ENGINE as EXTRACTING
from federation.store import outbox
from federation.store.context import context
from federation.store.fixed_ids import fixed_id, named_id
from federation.store.models.agents import Agent, Capability
from federation.store.models.conversations import Member
from federation.store.models.tasks import ENDED, AgentTask, Executor, TaskStatus, TaskType

RUN_ON_NODE = "federation.tasks.delegation.run"
LOOK_UP = "federation.tasks.delegation.look_up"
# What a node needs to do each kind of work: reports are extracted, the rest is answered by a model.
ENGINES = {each: EXTRACTING if each is TaskType.REPORT else inference.ENGINE for each in TaskType}

# What of a new task's row its event tells, beside its status.
_TOLD = (
    *("slug", "parent_id", "description", "parameters", "priority", "executor", "requirements", "capability", "look_up", "reserved_for"),
    *("start_at", "timeout_s", "requires_approval", "session_id"),
)


def delegate(
    session: Session,
    description: str,
    *,
    task_type: str = TaskType.INVESTIGATE,
    executor: str = Executor.AGENT,
    agent: str | None = None,
    requirements: Mapping[str, Any] | None = None,
    capability: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    priority: int = 5,
    conversation_id: str | None = None,
    slug: str | None = None,
    parent: str | None = None,
    start_at: datetime | None = None,
    timeout_s: float | None = None,
    look_up: bool = False,
    requires_approval: bool = False,
    session_id: uuid.UUID | None = None,
    designated: str | None = None,
    besides: bool = False,
) -> AgentTask:
    """Record a task, and for a node the execution that will do it, not before `start_at`; one that requires approval is parked without any.

    As a part of the task `parent` it stands in that one's conversation. It expires `timeout_s` after it could begin. With `look_up` a node's
    model reads what is found about it in the indexed files. Delegated again by its author under the same slug it is the task that is there.
    Its author states what he asks for, and for which role he has `designated` the agent with it; `besides` if what he signs is something else.
    Raises NotFound for an unknown agent, role, node, engine, model, parent or conversation, Conflict for a slug that is another task's and for a
    parent that has ended, Refused for what the charter does not let the caller do, InvalidInput, OverQuota.
    """
    agents.require(description, "description")
    if agent is not None:
        agents.look_up(session, [context(session).actor, agent])
    task_terms.require_fitting(
        task_type=task_type, executor=executor, priority=priority, agent=agent, capability=capability, start_at=start_at, timeout_s=timeout_s
    )
    needs = valid(session, requirements or {}, of_agents=executor != Executor.NODE)
    if executor == Executor.NODE and needs.engine is None:
        needs = needs.model_copy(update={"engine": ENGINES[TaskType(task_type)]})
    task_terms.require_able(session, executor, agent=agent, role=needs.role)
    if executor == Executor.NODE and task_type != TaskType.REPORT:
        # Now, so that a model of the charter's which no node has is told to who can do something about it.
        inference.with_model_of_role(session, needs, asker=context(session).actor)
    if look_up and (executor != Executor.NODE or task_type == TaskType.REPORT):
        raise InvalidInput("look_up", look_up, "a task that a node's model answers: executor 'node', and no report")
    whole = None if parent is None else find(session, parent, conversation_id=conversation_id)
    conversation_id = whole.conversation_id if whole else conversation_id or conversations.COMMONS
    of_others = needs.role is not None if agent is None else agent != context(session).actor
    right = Right.RUN if executor == Executor.NODE else Right.DESIGNATE if of_others else Right.OFFER
    charter.require_delegation(session, right, task_type, where=conversation_id, requires_approval=requires_approval)
    conversations.open_for(session, conversation_id, [agent] if agent else [])
    asked = {
        "conversation_id": conversation_id,
        "slug": None if slug is None else valid_slug("task_id", slug),
        "parent_id": whole.id if whole else None,
        "description": description,
        "task_type": task_type,
        "parameters": task_terms.parameters(parameters),
        "priority": priority,
        "executor": executor,
        # As JSON has them, so that they equal what is read back.
        "requirements": needs.model_dump(mode="json", exclude_defaults=True),
        "capability": capability,
        "look_up": look_up,
        "reserved_for": agent,
        "start_at": start_at,
        "timeout_s": timeout_s,
        "requires_approval": requires_approval,
        "session_id": session_id,
        "created_by": context(session).actor,
    }
    if slug is None and statements.is_brought(session):
        raise InvalidInput("task_id", None, "a name that you choose, because what you sign names the task by it")
    parked = {"status": TaskStatus.AWAITING_APPROVAL, "assigned_to": None}
    stands = parked if requires_approval else opened(agent, start_at=start_at, timeout_s=timeout_s)
    identity = uuid.uuid4() if slug is None else _identity(conversation_id, context(session).actor, slug)
    row = {**asked, **stands, "id": identity, "trace_id": context(session).trace_id}
    # Of any index: under one slug of one author both the name and the id are taken.
    made = insert(AgentTask).values(**row).on_conflict_do_nothing().returning(AgentTask)
    if (task := session.scalars(made).one_or_none()) is None:
        return _delegated_before(session, asked)
    if whole is not None:
        _require_open(session, whole)
    limits.open_task(session)
    _state(session, task, designated, besides=besides)
    told = {name: row[name] for name in _TOLD} | {"start_at": task_terms.moment(start_at)}
    task_events.append(session, "task.created", task, type=task_type, **told, **({} if designated is None else {"designated": designated}))
    if not requires_approval:
        begin(session, task)
    return task


def _identity(conversation_id: str, author: str, slug: str) -> uuid.UUID:
    # As that of a message, so that who signs knows it beforehand.
    return named_id("task", conversation_id, author, slug)


def _state(session: Session, task: AgentTask, designated: str | None, *, besides: bool) -> None:
    action = "task.delegate" if designated is None else "role.assign"
    task_events.state(session, action, task, besides=besides, **task_terms.asked_for(task, designated))


def _require_open(session: Session, whole: AgentTask) -> None:
    """Pass if a task has not ended, and let nobody end it before the commit. Raises Conflict."""
    # Whoever ends it looks for its parts after that, and finds this one.
    status = session.scalar(select(AgentTask.status).where(AgentTask.id == whole.id).with_for_update(read=True))
    if status in ENDED:
        raise Conflict(f"task {whole.slug or whole.id} is {status} and gets no more parts; delegate it without parent")


def at_first(meant_for: str | None) -> dict[str, Any]:
    """Return how a task stands that may be taken."""
    return {
        "status": TaskStatus.ASSIGNED if meant_for else TaskStatus.PENDING,
        "assigned_to": meant_for,
        "waiting_since": func.clock_timestamp(),
    }


def opened(reserved_for: str | None, *, start_at: datetime | None, timeout_s: float | None) -> dict[str, Any]:
    """Return how a task stands that may begin now, or at its time."""
    begins: ColumnElement[Any] = func.clock_timestamp() if start_at is None else func.greatest(func.clock_timestamp(), start_at)
    ends = None if timeout_s is None else begins + timedelta(seconds=timeout_s)
    return at_first(reserved_for) | {"waiting_since": begins, "expires_at": ends}


def begin(session: Session, task: AgentTask) -> None:
    """Tell the one agent whose task it is, or record the execution that does it on a node, unless a phase holds it. Raises OverQuota."""
    if task.reserved_for is not None:
        task_events.append(session, "task.assigned", task, agent_id=task.reserved_for)
    if task.executor == Executor.NODE:
        if task.task_type != TaskType.REPORT:
            limits.inference_tokens(session, inference.tokens_of_task(task.description, task.parameters, look_up=task.look_up))
        if phases.holding(session, task.task_type, task.conversation_id, until_commit=True) is None:
            send_to_node(session, task)


def send_to_node(session: Session, task: AgentTask) -> None:
    """Record the execution that does a task on a node; where something is looked up for it, the one that does that first."""
    if task.look_up:
        needs = {"tags": [retrieval.FRAG], "engine": retrieval.EMBEDDING_ENGINE}
        _record(session, task, LOOK_UP, {}, requirements=needs, due_at=task.start_at)
    else:
        _record_run(session, task, {}, due_at=task.start_at)


def send_with_sources(session: Session, task: AgentTask, chunk_ids: Sequence[uuid.UUID]) -> None:
    """Record the execution that does a task on a node with what the current one has found; recorded again it is the same."""
    identity = fixed_id("run", context(session).execution_id)
    sources = {"sources": [str(each) for each in chunk_ids]}
    _record_run(session, task, sources, execution_id=identity)


def _record_run(session: Session, task: AgentTask, more: Mapping[str, Any], **options: Any) -> None:
    needs, by_role = Requirements.model_validate(task.requirements), None
    if task.task_type != TaskType.REPORT:
        # As for any question; who asks is who delegated it, and not who approved it.
        needs, by_role = inference.with_model_of_role(session, needs, asker=task.created_by)
    chosen = {} if by_role is None else {"model": needs.model, "by_role": by_role}
    _record(session, task, RUN_ON_NODE, {**more, **chosen}, requirements=needs.model_dump(mode="json", exclude_defaults=True), **options)


def _record(session: Session, task: AgentTask, name: str, more: Mapping[str, Any], **options: Any) -> None:
    about: dict[str, Any] = {"agent_task_id": task.id, "conversation_id": task.conversation_id, "priority": task.priority}
    outbox.record(session, name, {"task_id": str(task.id), **more}, **about, **options)


def claimants(session: Session, task: AgentTask) -> int:
    """Return how many agents may claim a task: members of its conversation, of the role that it is for, who can do what it asks for."""
    role = task_terms.role_for(task)
    if task.meant_for is not None and role is None and task.capability is None and task.conversation_id == conversations.COMMONS:
        return 1
    query = select(func.count()).select_from(Agent)
    if task.meant_for is not None:
        query = query.where(Agent.name == task.meant_for)
    if role is not None:
        query = query.where(Agent.role == role)
    if task.capability is not None:
        query = query.where(Agent.name.in_(select(Capability.agent).where(Capability.capability == task.capability)))
    if task.conversation_id != conversations.COMMONS:
        query = query.where(Agent.name.in_(select(Member.agent).where(Member.conversation_id == task.conversation_id)))
    return session.scalars(query).one()


def _delegated_before(session: Session, asked: Mapping[str, Any]) -> AgentTask:
    """Return the task of this slug. Raises Conflict if it is another one."""
    slug, conversation_id = asked["slug"], asked["conversation_id"]
    former = session.scalars(select(AgentTask).where(AgentTask.conversation_id == conversation_id, AgentTask.slug == slug)).one()
    others = [name for name, value in asked.items() if getattr(former, name) != value]
    if others:
        raise Conflict(
            f"task {slug!r} exists in conversation {conversation_id} already, delegated by {former.created_by} ({', '.join(others)} differ); "
            "choose another task_id, or look at it with federation_task_status"
        )
    return former


def find(session: Session, reference: str, *, conversation_id: str | None = None) -> AgentTask:
    """Return the task of this UUID or slug that the caller may see.

    Raises NotFound with the nearest names, also for an unknown conversation, Refused for a stranger's, Conflict for a slug that stands
    in several conversations.
    """
    if conversation_id is not None:
        conversations.require_member(session, conversation_id)
    column = AgentTask.conversation_id
    mine = conversations.is_mine(session, column) if conversation_id is None else column == conversation_id
    found = session.scalars(select(AgentTask).where(_is_called(reference), mine)).all()
    if not found:
        latest = select(AgentTask.slug, AgentTask.id).where(mine).order_by(AgentTask.created_at.desc())
        raise NotFound("task", reference, [row.slug or str(row.id) for row in session.execute(latest.limit(1000))])
    by_id = [task for task in found if str(task.id) == reference.lower()]
    if len(found) > 1 and not by_id:
        where = ", ".join(task.conversation_id for task in found)
        raise Conflict(f"task {reference!r} stands in several conversations: {where}; name conversation_id too")
    return (by_id or found)[0]


def named(session: Session, reference: str, conversation_id: str) -> AgentTask | None:
    """Return the task of this UUID or slug in a conversation of the caller's, if there is one."""
    query = select(AgentTask).where(_is_called(reference), AgentTask.conversation_id == conversation_id)
    return session.scalars(query.order_by(AgentTask.slug == reference)).first()


def _is_called(reference: str) -> ColumnElement[bool]:
    with suppress(ValueError):
        # A caller may have chosen a slug that looks like a UUID.
        return or_(AgentTask.slug == reference, AgentTask.id == uuid.UUID(reference))
    return AgentTask.slug == reference
