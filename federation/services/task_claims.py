"""How a task is taken, given back and done by who claims it: an agent, or a person; each change is one statement and one event."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, or_, update
from sqlalchemy.orm import Session

from federation.charter import PERSON, Right
from federation.charter import charter as rules
from federation.errors import Conflict
from federation.security.statements import Mode
from federation.services import agents, capabilities, charter, claims, statements, task_ends, task_events, task_terms, task_trees, tasks
from federation.services.resources import of_task
from federation.store.context import context
from federation.store.models.tasks import BEGUN, ENDED, AgentTask, Executor, TaskStatus

CLAIM = "federation.tasks.claims.claim_task"


def claim(
    session: Session,
    reference: str,
    *,
    description: str,
    ttl_s: float,
    conversation_id: str | None = None,
    present_s: float | None = None,
    is_first: bool = False,
) -> claims.ClaimOutcome:
    """Claim a task for the calling agent; the winner is its assignee and it counts as running.

    With `present_s` who loses waits in line, and counts as present for so long. Who leads may take what nobody took in time, whoever it was for.
    `is_first` as `claims.claim` has it. Raises Conflict for a task that has ended, Refused for one that is a node's or another agent's.
    """
    task = tasks.find(session, reference, conversation_id=conversation_id)
    actor, is_at_it = context(session).actor, _is_at_it(session, task)
    outcome = claims.claim(session, of_task(task.id), description=description, ttl_s=ttl_s, present_s=present_s, is_first=is_first)
    if outcome.again:
        return outcome
    if not outcome.claimed:
        _require_claimable(session, task, reference, is_at_it=is_at_it)
        return outcome
    meant = func.coalesce(AgentTask.handed_to, AgentTask.reserved_for)
    mine = [meant.is_(None), meant == actor, *([AgentTask.escalated_at.is_not(None)] if _leads(session) else [])]
    taking = (
        update(AgentTask)
        .where(AgentTask.id == task.id, AgentTask.status.in_(BEGUN))
        .where(AgentTask.executor.in_(task_terms.CLAIMING))
        .where(or_(*mine))
        .values(status=TaskStatus.RUNNING, assigned_to=actor)
        .returning(AgentTask)
    )
    taken = session.scalars(taking, execution_options={"populate_existing": True}).one_or_none()
    if taken is None:
        session.refresh(task)
    # What does not change (for whom it is) is looked at here; that it has not ended was decided above, with the row locked.
    _require_claimable(session, task, reference, is_at_it=is_at_it)
    if taken is None:
        raise Conflict(f"task {reference} is {task.status}; look at it with federation_task_status")
    task_events.state(session, "task.claim", task, description=description, ttl_s=ttl_s)
    task_events.append(session, "task.claimed", task, agent_id=actor, fencing_token=outcome.fencing_token)
    return outcome


def _leads(session: Session) -> bool:
    return charter.may(session, context(session).actor, Right.DESIGNATE)


def _is_at_it(session: Session, task: AgentTask) -> bool:
    return task.status == TaskStatus.RUNNING and task.assigned_to == context(session).actor


def _require_claimable(session: Session, task: AgentTask, reference: str, *, is_at_it: bool) -> None:
    """Pass if the caller may claim this task, as far as its row and the charter tell. Raises Conflict, Refused."""
    # Who is at work goes on, whatever the phase.
    charter.require(session, Right.CLAIM, instead="leave it to them.", where=None if is_at_it else task.conversation_id)
    if task.executor not in task_terms.CLAIMING:
        raise charter.refused("assign", f"task {reference} runs on a node; read its result with federation_task_result.")
    if task.status in ENDED:
        raise Conflict(f"task {reference} is {task.status} already; read it with federation_task_result")
    if task.status == TaskStatus.AWAITING_APPROVAL:
        raise charter.refused("propose", f"task {reference} awaits approval; federation_task_status says whose.")
    _require_meant(session, task, reference)
    if charter.must_propose(session, task.task_type) and not _is_accepted(session, task):
        instead = "propose it as a task of your own with requires_approval=true, and claim that one when it is approved."
        charter.refuse_unproposed(session, task.task_type, instead=instead)
    if not is_at_it:
        charter.require_begun(session, task.task_type, task.conversation_id, instead="wait.")


def _require_meant(session: Session, task: AgentTask, reference: str) -> None:
    """Pass if the task is for the caller, or nobody took it and the caller leads. Raises Refused."""
    actor = context(session).actor
    if task.executor == Executor.PERSON and charter.is_agent(actor) and agents.role_of(session, actor) != PERSON:
        raise charter.refused("assign", f"task {reference} is for a person; leave it to an agent of the role {PERSON}.")
    if task.escalated_at is not None and _leads(session):
        return
    if task.meant_for not in {None, actor}:
        raise charter.refused("assign", f"task {reference} is assigned to {task.meant_for}; leave it to them.")
    wanted = task_terms.role_for(task)
    if wanted is not None and task.executor != Executor.PERSON and agents.role_of(session, actor) != wanted:
        raise charter.refused("assign", f"task {reference} is for the role {wanted}; leave it to an agent of that role.")
    if task.capability is not None and task.meant_for is None and task.capability not in capabilities.of(session, actor):
        say = f"leave it to one who says so, or say so with federation_update_state(capabilities=['{task.capability}', …])."
        raise charter.refused("assign", f"task {reference} is for who can {task.capability}: {say}")


def _is_accepted(session: Session, task: AgentTask) -> bool:
    # Approved by somebody, or asked for by one who may approve: that is an order, and needs no proposal.
    by_another = task.created_by != context(session).actor
    return task.decided_by is not None or (by_another and charter.may(session, task.created_by, Right.APPROVE))


def release(session: Session, reference: str, *, conversation_id: str | None = None) -> bool:
    """Give back a task that the caller holds, so that others may claim it; False if the caller does not hold it."""
    task = tasks.find(session, reference, conversation_id=conversation_id)
    if not claims.release(session, of_task(task.id)):
        return False
    back = tasks.at_first(task.meant_for)
    session.execute(update(AgentTask).where(AgentTask.id == task.id, AgentTask.status == TaskStatus.RUNNING).values(**back))
    session.refresh(task)
    task_events.state(session, "task.release", task)
    task_events.append(session, "task.released", task)
    return True


def complete(
    session: Session, reference: str, *, fencing_token: int, result: Mapping[str, Any], success: bool = True, conversation_id: str | None = None
) -> AgentTask:
    """Record the result of a task that the caller holds with the current fencing token; the same again changes nothing.

    What failed takes its open parts with it. Raises Refused for anyone else, Conflict for a task that ended otherwise or has open parts,
    Equivocation for the signed contrary of what the caller signed before.
    """
    task = tasks.find(session, reference, conversation_id=conversation_id)
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
    if success:
        task_trees.require_done(session, task)
    statements.keep(session, said, conversation_id=task.conversation_id)
    task_ends.end(session, task, status, dict(result))
    claims.release(session, of_task(task.id))
    return task
