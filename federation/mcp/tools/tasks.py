"""Tools to see where a task stands and to read what came of it."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.index_runs import IndexProgress, RunState, is_run, progress
from federation.mcp.references import standing_of
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, AnyReference, InConversation, StatementSignature, StatementText
from federation.mcp.waits import Standing, given_up, standing
from federation.security.statements import presented
from federation.services import approvals, outcomes, task_ends, task_terms, task_trees
from federation.services.executions import State
from federation.services.outcomes import Outcome
from federation.services.references import located
from federation.services.task_trees import Part
from federation.store.models.executions import Execution
from federation.store.models.tasks import BEGUN, ENDED, AgentTask, Executor, TaskStatus

# Of a task's parts so many are shown.
MOST_PARTS = 100
HELD = "it begins when its conversation is moved on to a phase that does not hold this kind of work: see federation_phase"
UNTAKEN = "nobody took it in time: those who may hand out work were told, and may take it"
FORGOTTEN = "it ended long ago, and what it returned is kept no longer; ask again if it is still wanted"


class Kind(StrEnum):
    """What an id stands for."""

    TASK = "task"
    EXECUTION = "execution"


# A task's own, that of the execution that does it, or that of a run of the indexer.
AnyState = State | TaskStatus | RunState


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where a task or an execution stands."""

    task_id: uuid.UUID
    slug: str | None
    kind: Kind
    conversation_id: str | None
    description: Annotated[str, Field(description="What is to be done; of an execution the name of what runs.")]
    terms: Annotated[dict[str, Any] | None, Field(description=f"{task_terms.TOLD} Null for an execution.")]
    executor: Executor
    state: AnyState
    assigned_to: Annotated[str | None, Field(description="The agent or node that has it.")]
    created_by: str
    execution_id: Annotated[uuid.UUID | None, Field(description="The execution that does it; null for a task of agents.")]
    node: str | None
    worker: str | None
    deliveries: Annotated[int, Field(description="How often it was handed to a worker; more than one: a worker was lost.")]
    waiting_for: Annotated[
        str | None, Field(description="Whose approval it awaits; or what a node must have that none alive has, and it starts when one comes.")
    ]
    expires_at: Annotated[datetime | None, Field(description="When it ends as expired if it is not done.")]
    overall: Annotated[TaskStatus | None, Field(description="How far it is with its parts; null for an execution.")]
    parts: Annotated[Sequence[Part], Field(description="The tasks that it consists of, each before its own parts.")]
    parts_left_out: Annotated[int, Field(description="How many more there are.")]
    note: Annotated[str | None, Field(description="What to do next, or how far it is.")]


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What came of a task or an execution."""

    task_id: uuid.UUID
    slug: str | None
    finished: Annotated[bool, Field(description="False: it is still under way; call again with wait_s.")]
    state: AnyState
    result: Annotated[Any, Field(description="What its agent recorded, or what its execution returned; null while there is none.")]
    error: Annotated[str | None, Field(description="Why it has no result.")]
    done_by: Annotated[str | None, Field(description="The agent or node that has it or did it.")]
    waiting_for: Annotated[
        str | None, Field(description="Whose approval it awaits; or what a node must have that none alive has, and it starts when one comes.")
    ]
    note: Annotated[str | None, Field(description="What to do next, or how far it is.")]


async def federation_task_status(call: Call, task_id: AnyReference, conversation_id: InConversation = None) -> TaskState:
    """See what a task asks for, with its parameters, and where it stands: who has it, on which node it runs, how often it was delivered, what it
    waits for, and what parts it has.

    Takes a task's id or name, and also the execution_id or run_id that another tool returned to you. To wait for the end, use
    federation_task_result with wait_s instead of calling this often.
    """

    def look(session: Session) -> TaskState:
        found = located(session, task_id, conversation_id)
        task = found if isinstance(found, AgentTask) else None
        stands = standing_of(session, task) if task else standing(session, found.id)
        run = _run(session, found)
        tree = task_trees.tree(session, task) if task else None
        return TaskState(
            task_id=found.id,
            slug=task.slug if task else None,
            kind=Kind.TASK if task else Kind.EXECUTION,
            conversation_id=task.conversation_id if task else None,
            description=found.description if isinstance(found, AgentTask) else found.task_name,
            terms=task_terms.terms(task) if task else None,
            executor=Executor(task.executor) if task else Executor.NODE,
            state=run.state if run else _state(task, stands),
            assigned_to=task.assigned_to if task else None,
            created_by=found.created_by if isinstance(found, AgentTask) else found.actor,
            execution_id=stands.execution_id if stands else None,
            node=stands.node if stands else None,
            worker=stands.worker if stands else None,
            deliveries=stands.deliveries if stands else 0,
            waiting_for=run.waiting_for if run else stands.waiting_for if stands else _approval(session, task),
            expires_at=task.expires_at if task else None,
            overall=tree.overall if tree else None,
            parts=tree.parts[:MOST_PARTS] if tree else [],
            parts_left_out=max(len(tree.parts) - MOST_PARTS, 0) if tree else 0,
            note=run.note if run else stands.note if stands else note_on(task),
        )

    return await call.transact(look)


async def federation_task_result(
    call: Call,
    task_id: AnyReference,
    wait_s: Annotated[
        float,
        Field(ge=0, le=600, description="Seconds to wait for the end, up to 600, also for a node that is not there yet; 0 looks once."),
        NUMBER,
    ] = 0,
    conversation_id: InConversation = None,
) -> TaskOutcome:
    """Read what came of a task; with `wait_s` wait for its end. `finished` is false if it is still under way then: call again.

    Takes a task's id or name, and also the execution_id or run_id that another tool returned to you when its answer was late.
    """
    first = await call.transact(lambda session: _outcome(session, task_id, conversation_id))
    if first.finished or wait_s <= 0:
        return first
    execution_id = await call.transact(lambda session: _execution(session, task_id, conversation_id))

    def look(session: Session) -> TaskOutcome | None:
        found = _outcome(session, task_id, conversation_id)
        return found if found.finished else None

    waited_for = [execution_id] if execution_id else []
    found = await call.until(
        look,
        wait_s=wait_s,
        notices=[f"task:{first.task_id}", f"index:{first.task_id}"],
        executions=waited_for,
        waiting=f"task {task_id} is {first.state}",
    )
    if found is not None:
        return found
    return await call.transact(lambda session: _outcome(session, task_id, conversation_id))


async def federation_cancel_task(
    call: Call,
    task_id: AnyReference,
    *,
    reason: Annotated[str, Field(max_length=LONGEST_LINE, description="Why, for those who wait for it.", examples=["Found by other means"])] = "",
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> TaskOutcome:
    """End a task that is not wanted any more, wherever it is: waiting, in a node's queue, or running; also an execution that you asked for.

    For who delegated it, and for the lead. What it has done so far stays done; what it still does has no effect. `state` says how it ended: it may
    have been quicker.
    """
    voice = presented(statement, signature)

    def work(session: Session) -> TaskOutcome:
        found = located(session, task_id, conversation_id)
        if isinstance(found, AgentTask):
            task_ends.cancel(session, str(found.id), reason=reason, conversation_id=conversation_id)
        else:
            task_ends.cancel_execution(session, found, reason=reason)
        return _outcome(session, str(found.id), conversation_id)

    return await call.transact(work, voice=voice)


def note_on(task: AgentTask | None) -> str | None:
    """Return what is to be said of a task for which no execution speaks."""
    if task is None or task.status not in BEGUN:
        return None
    if task.executor == Executor.NODE:
        return HELD
    return UNTAKEN if task.escalated_at is not None else None


def _execution(session: Session, reference: str, conversation_id: str | None) -> uuid.UUID | None:
    found = located(session, reference, conversation_id)
    return outcomes.of_task(session, found.id) if isinstance(found, AgentTask) else found.id


def _outcome(session: Session, reference: str, conversation_id: str | None) -> TaskOutcome:
    found = located(session, reference, conversation_id)
    task = found if isinstance(found, AgentTask) else None
    stands = standing_of(session, task) if task else standing(session, found.id)
    run = _run(session, found)
    if run is not None:
        return TaskOutcome(found.id, None, run.finished, run.state, asdict(run), None, None, run.waiting_for, run.note)
    ended = outcomes.ended(session, stands.execution_id) if stands else None
    if ended is not None:
        # Read once more, because it may have ended between the two looks.
        if task is not None:
            session.refresh(task)
        stands = standing_of(session, task) if task else standing(session, found.id)
    elif stands is not None:
        ended = given_up(stands)
    # A node's task records its own end; one whose execution broke has no more to tell than the execution.
    recorded = task is not None and task.status in ENDED
    return TaskOutcome(
        task_id=found.id,
        slug=task.slug if task else None,
        finished=recorded or (ended is not None and (task is None or not ended.succeeded)),
        state=_state(task, stands),
        result=task.result if task and recorded else ended.value if ended and not task else None,
        error=_error(task, ended),
        done_by=task.assigned_to if task else stands.node if stands else None,
        waiting_for=stands.waiting_for if stands else _approval(session, task),
        note=FORGOTTEN if ended and task is None and not ended.kept else stands.note if stands else None,
    )


def _approval(session: Session, task: AgentTask | None) -> str | None:
    return approvals.waits_for(session, task) if task is not None else None


def _error(task: AgentTask | None, ended: Outcome | None) -> str | None:
    """Return why there is no result: in the task's own words, where it has some."""
    if task is not None and task.status in {TaskStatus.FAILED, TaskStatus.EXPIRED} and isinstance((task.result or {}).get("error"), str):
        return str((task.result or {})["error"])
    recorded = task is not None and task.status in ENDED
    return ended.error if ended and (ended.kept or not recorded) else None


def _run(session: Session, found: AgentTask | Execution) -> IndexProgress | None:
    # The scan is done long before the run is, and its asker means the run.
    return progress(session, found.id) if isinstance(found, Execution) and is_run(found) else None


def _state(task: AgentTask | None, stands: Standing | None) -> State | TaskStatus:
    """Return the state in one word: the execution's, until the task itself has ended."""
    if task is not None and (stands is None or task.status in ENDED):
        return TaskStatus(task.status)
    assert stands is not None  # an execution always stands somewhere
    return stands.state
