"""Tasks: delegated to agents or to a node, claimed, completed; each change of status is one statement and one event."""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.errors import Conflict, InvalidInput, NotFound
from federation.security.statements import Mode
from federation.services import agents, charter, claims, conversations, executions, inference, limits, statements, task_events, task_terms
from federation.services.names import valid_slug
from federation.services.needs import valid
from federation.services.resources import of_task
from federation.services.summaries import ENGINE as EXTRACTING
from federation.store import outbox
from federation.store.context import context
from federation.store.models.agents import Agent
from federation.store.models.conversations import Member
from federation.store.models.executions import Execution
from federation.store.models.tasks import ENDED, AgentTask, Executor, TaskStatus, TaskType

RUN_ON_NODE = "federation.tasks.delegation.run"
CLAIM = "federation.tasks.claims.claim_task"
# What a node needs to do each kind of work: reports are extracted, the rest is answered by a model.
ENGINES = {each: EXTRACTING if each is TaskType.REPORT else inference.ENGINE for each in TaskType}

# What of a new task's row its event tells, beside its status.
_TOLD = ("slug", "description", "parameters", "priority", "executor", "requirements", "reserved_for", "start_at", "requires_approval", "session_id")


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
    start_at: datetime | None = None,
    requires_approval: bool = False,
    session_id: uuid.UUID | None = None,
) -> AgentTask:
    """Record a task, and for a node the execution that will do it, not before `start_at`; one that requires approval is parked without any.

    Delegated again by its author under the same slug it is the task that is there. Raises NotFound for an unknown agent, role, node,
    engine, model or conversation, Conflict for a slug that is another task's, Refused for what the charter does not let the caller do,
    InvalidInput, OverQuota.
    """
    agents.require(description, "description")
    if task_type not in set(TaskType):
        raise InvalidInput("task_type", task_type, "one of " + ", ".join(TaskType))
    if executor not in set(Executor):
        raise InvalidInput("executor", executor, "one of " + ", ".join(Executor))
    if start_at is not None and executor != Executor.NODE:
        raise InvalidInput("start_at", start_at.isoformat(), "a task of executor 'node'; an agent begins when it claims")
    if not 1 <= priority <= 10:
        raise InvalidInput("priority", priority, "1 (can wait) to 10 (first)")
    needs = valid(session, requirements or {}, of_agents=executor == Executor.AGENT)
    if executor == Executor.NODE and needs.engine is None:
        needs = needs.model_copy(update={"engine": ENGINES[TaskType(task_type)]})
    if agent is not None and needs.role not in (None, role := agents.get(session, agent).role):
        raise InvalidInput("role", needs.role, f"{role}, the role of {agent}, or no role: an agent of another could not claim it")
    of_others = needs.role is not None if agent is None else agent != context(session).actor
    right = Right.RUN if executor == Executor.NODE else Right.DESIGNATE if of_others else Right.OFFER
    charter.require_delegation(session, right, task_type, requires_approval=requires_approval)
    conversation_id = conversation_id or conversations.COMMONS
    conversations.open_for(session, conversation_id, [agent] if agent else [])
    asked = {
        "conversation_id": conversation_id,
        "slug": None if slug is None else valid_slug("task_id", slug),
        "description": description,
        "task_type": task_type,
        "parameters": task_terms.parameters(parameters, awaits_approval=requires_approval),
        "priority": priority,
        "executor": executor,
        # As JSON has them, so that they equal what is read back.
        "requirements": needs.model_dump(mode="json", exclude_defaults=True),
        "reserved_for": agent,
        "start_at": start_at,
        "requires_approval": requires_approval,
        "session_id": session_id,
        "created_by": context(session).actor,
    }
    stands = {"status": TaskStatus.AWAITING_APPROVAL, "assigned_to": None} if requires_approval else at_first(agent)
    row = {**asked, **stands, "id": uuid.uuid4(), "trace_id": context(session).trace_id}
    made = insert(AgentTask).values(**row).on_conflict_do_nothing(index_elements=["conversation_id", "slug"]).returning(AgentTask)
    if (task := session.scalars(made).one_or_none()) is None:
        return _delegated_before(session, asked)
    limits.open_task(session)
    task_events.append(session, "task.created", task, type=task_type, **{name: row[name] for name in _TOLD})
    if not requires_approval:
        begin(session, task)
    return task


def at_first(reserved_for: str | None) -> dict[str, Any]:
    """Return how a task stands that may begin."""
    return {"status": TaskStatus.ASSIGNED if reserved_for else TaskStatus.PENDING, "assigned_to": reserved_for}


def begin(session: Session, task: AgentTask) -> None:
    """Tell the one agent whose task it is, or record the execution that does it on a node. Raises OverQuota."""
    if task.reserved_for is not None:
        task_events.append(session, "task.assigned", task, agent_id=task.reserved_for)
    if task.executor == Executor.NODE:
        if task.task_type != TaskType.REPORT:
            limits.inference_tokens(session, inference.tokens_of_task(task.description, task.parameters))
        outbox.record(
            session,
            RUN_ON_NODE,
            {"task_id": str(task.id)},
            requirements=task.requirements,
            agent_task_id=task.id,
            conversation_id=task.conversation_id,
            priority=task.priority,
            due_at=task.start_at,
        )


def claimants(session: Session, task: AgentTask) -> int:
    """Return how many agents may claim a task for agents: members of its conversation, of the role that it is for."""
    query = select(func.count()).select_from(Agent)
    if task.reserved_for is not None:
        query = query.where(Agent.name == task.reserved_for)
    if (role := task.requirements.get("role")) is not None:
        query = query.where(Agent.role == role)
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
    mine = _my_conversations(session) if conversation_id is None else [conversation_id]
    named = AgentTask.slug == reference
    with suppress(ValueError):
        # A caller may have chosen a slug that looks like a UUID.
        named = or_(named, AgentTask.id == uuid.UUID(reference))
    found = session.scalars(select(AgentTask).where(named, AgentTask.conversation_id.in_(mine))).all()
    if not found:
        latest = select(AgentTask.slug, AgentTask.id).where(AgentTask.conversation_id.in_(mine)).order_by(AgentTask.created_at.desc())
        raise NotFound("task", reference, [row.slug or str(row.id) for row in session.execute(latest.limit(1000))])
    by_id = [task for task in found if str(task.id) == reference.lower()]
    if len(found) > 1 and not by_id:
        where = ", ".join(task.conversation_id for task in found)
        raise Conflict(f"task {reference!r} stands in several conversations: {where}; name conversation_id too")
    return (by_id or found)[0]


def _my_conversations(session: Session) -> list[str]:
    mine = select(Member.conversation_id).where(Member.agent == context(session).actor)
    return [*session.scalars(mine), conversations.COMMONS]


def request_claim(session: Session, reference: str, *, description: str, ttl_s: float, conversation_id: str | None = None) -> uuid.UUID:
    """Record the execution that claims a task for the calling agent; return its id.

    Raises what the claim itself would raise, as far as it can be known now: NotFound, InvalidInput, Conflict, Refused.
    """
    claims.valid_ttl(ttl_s)
    task = find(session, reference, conversation_id=conversation_id)
    _require_claimable(session, task, reference)
    task_events.state(session, "task.claim", task, description=description, ttl_s=ttl_s)
    return outbox.record(session, CLAIM, {"task_id": str(task.id), "description": description, "ttl_s": ttl_s}, priority=10)


def claim(
    session: Session, reference: str, *, description: str, ttl_s: float, conversation_id: str | None = None, present_s: float | None = None
) -> claims.ClaimOutcome:
    """Claim a task for the calling agent; the winner is its assignee and it counts as running.

    With `present_s` who loses waits in line, and counts as present for so long. Raises Conflict for a task that has ended, Refused for one that
    is a node's or another agent's.
    """
    task = find(session, reference, conversation_id=conversation_id)
    actor = context(session).actor
    outcome = claims.claim(session, of_task(task.id), description=description, ttl_s=ttl_s, present_s=present_s)
    if outcome.again:
        return outcome
    if not outcome.claimed:
        _require_claimable(session, task, reference)
        return outcome
    taken = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.not_in({*ENDED, TaskStatus.AWAITING_APPROVAL}), AgentTask.executor == Executor.AGENT)
        .where(AgentTask.reserved_for.is_(None) | (AgentTask.reserved_for == actor))
        .values(status=TaskStatus.RUNNING, assigned_to=actor)
        .returning(AgentTask.id)
    )
    session.refresh(task)
    # What does not change (for whom it is) is looked at here; that it has not ended was decided above, with the row locked.
    _require_claimable(session, task, reference)
    if taken is None:
        raise Conflict(f"task {reference} is {task.status}; look at it with federation_task_status")
    task_events.state(session, "task.claim", task, description=description, ttl_s=ttl_s)
    task_events.append(session, "task.claimed", task, agent_id=actor, fencing_token=outcome.fencing_token)
    return outcome


def _require_claimable(session: Session, task: AgentTask, reference: str) -> None:
    """Pass if the caller may claim this task, as far as its row and the charter tell. Raises Conflict, Refused."""
    actor = context(session).actor
    charter.require(session, Right.CLAIM, instead="leave it to them.")
    if task.executor != Executor.AGENT:
        raise charter.refused("assign", f"task {reference} runs on a node; read its result with federation_task_result.")
    if task.status in ENDED:
        raise Conflict(f"task {reference} is {task.status} already; read it with federation_task_result")
    if task.status == TaskStatus.AWAITING_APPROVAL:
        raise charter.refused("propose", f"task {reference} awaits approval; federation_task_status says whose.")
    if task.reserved_for not in {None, actor}:
        raise charter.refused("assign", f"task {reference} is assigned to {task.reserved_for}; leave it to them.")
    wanted = task.requirements.get("role")
    if wanted is not None and agents.get(session, actor).role != wanted:
        raise charter.refused("assign", f"task {reference} is for the role {wanted}; leave it to an agent of that role.")
    if charter.must_propose(session, task.task_type) and not _is_accepted(session, task):
        instead = "propose it as a task of your own with requires_approval=true, and claim that one when it is approved."
        charter.refuse_unproposed(session, task.task_type, instead=instead)


def _is_accepted(session: Session, task: AgentTask) -> bool:
    # Approved by somebody, or asked for by one who may approve: that is an order, and needs no proposal.
    by_another = task.created_by != context(session).actor
    return task.decided_by is not None or (by_another and charter.may(session, task.created_by, Right.APPROVE))


def release(session: Session, reference: str, *, conversation_id: str | None = None) -> bool:
    """Give back a task that the caller holds, so that others may claim it; False if the caller does not hold it."""
    task = find(session, reference, conversation_id=conversation_id)
    if not claims.release(session, of_task(task.id)):
        return False
    back = at_first(task.reserved_for)
    session.execute(update(AgentTask).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.RUNNING).values(**back))
    session.refresh(task)
    task_events.state(session, "task.release", task)
    task_events.append(session, "task.released", task)
    return True


def complete(
    session: Session, reference: str, *, fencing_token: int, result: Mapping[str, Any], success: bool = True, conversation_id: str | None = None
) -> AgentTask:
    """Record the result of a task that the caller holds with the current fencing token; the same again changes nothing.

    Raises Refused for anyone else, Conflict for a task that ended otherwise, Equivocation for the signed contrary of what the caller signed before.
    """
    task = find(session, reference, conversation_id=conversation_id)
    status = TaskStatus.COMPLETED if success else TaskStatus.FAILED
    told, demanded = {"result": dict(result)}, Mode(rules().demands.completion)
    said = statements.say(session, action="task.complete", choice=status, subject=f"task:{task.id}", content=told, demanded=demanded)
    # With the turn of the claim, so that of two calls at once the second sees what the first has done.
    current = claims.current(session, of_task(task.id))
    session.refresh(task)
    if task.status in ENDED:
        mine = current is not None and (current.holder, current.fencing_token) == (context(session).actor, fencing_token)
        if mine and (task.status, task.result) == (status, dict(result)):
            return task
        statements.keep_contrary(session, said, conversation_id=task.conversation_id)
        raise Conflict(f"task {reference} is {task.status} already, by {task.assigned_to}; read it with federation_task_result")
    claims.require(session, of_task(task.id), fencing_token)
    statements.keep(session, said, conversation_id=task.conversation_id)
    _end(session, task, status, dict(result))
    claims.release(session, of_task(task.id))
    return task


def cancel(session: Session, reference: str, *, reason: str = "", conversation_id: str | None = None) -> AgentTask:
    """End a task that is not wanted any more: its claim, and the execution that does it on a node, end with it.

    Cancelled again it is the task that is there. Raises Refused for one who neither delegated it nor may end it by the
    charter, Conflict for a task that ended otherwise.
    """
    task = find(session, reference, conversation_id=conversation_id)
    if context(session).actor != task.created_by:
        charter.require(session, Right.CANCEL, instead=f"ask them, or {task.created_by}, who delegated task {reference}.")
    return end_unwanted(session, task, reason=reason)


def end_unwanted(session: Session, task: AgentTask, *, reason: str) -> AgentTask:
    """Cancel a task for a caller whose right to do so was looked at before. Raises Conflict for a task that ended otherwise."""
    actor = context(session).actor
    # Before the task, which who claims it locks after the claim.
    claims.revoke(session, of_task(task.id))
    # Waits for who approves it at this moment, so that the execution which he records is found; nobody works yet on what awaits approval.
    session.execute(select(AgentTask.id).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.AWAITING_APPROVAL).with_for_update())
    # Before the task too, as who works on it.
    for execution_id in executions.of_task(session, task.id):
        executions.cancel(session, execution_id, reason)
    ended = session.scalar(
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.not_in(ENDED))
        .values(status=TaskStatus.CANCELLED, result={"cancelled_by": actor, "reason": reason}, completed_at=func.clock_timestamp())
        .returning(AgentTask.id)
    )
    session.refresh(task)
    if ended is None:
        if task.status == TaskStatus.CANCELLED:
            return task
        raise Conflict(f"task {task.slug or task.id} is {task.status} already; read it with federation_task_result")
    task_events.state(session, "task.cancel", task, result=task.result)
    task_events.append(session, "task.cancelled", task, result=task.result)
    return task


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
        .values(status=TaskStatus.PENDING, assigned_to=None, result=null(), completed_at=None)
        .returning(AgentTask)
    ).one_or_none()
    if task is not None:
        task_events.append(session, "task.reopened", task)


def start_on_node(session: Session, task_id: uuid.UUID, node: str) -> AgentTask | None:
    """Mark a node's task as running there and return it; None if it has ended meanwhile."""
    task = session.scalars(
        update(AgentTask)
        .where(AgentTask.id == task_id, AgentTask.status.not_in(ENDED))
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
    task_events.append(session, "task.completed" if status is TaskStatus.COMPLETED else "task.failed", task, result=result)
