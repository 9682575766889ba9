"""The tool to hand out work to agents and to nodes."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.references import standing_of
from federation.mcp.tools.arguments import ConversationId, Model, Node
from federation.services import messages, tasks
from federation.store.models.conversations import MessageType
from federation.store.models.tasks import AgentTask, Executor, TaskType


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task that is recorded for good; `state` is that of its execution for a node's task, else the task's own."""

    task_id: uuid.UUID
    slug: str | None
    conversation_id: str
    executor: str
    state: str
    node: str | None
    assigned_to: str | None
    execution_id: uuid.UUID | None
    waiting_for: str | None
    note: str | None


async def federation_delegate(
    call: Call,
    description: Annotated[str, Field(description="What is to be done, complete enough for somebody who knows nothing else.")],
    *,
    task_type: Annotated[
        TaskType, Field(description="A node's report summarises the conversation; the others are for its model.")
    ] = TaskType.INVESTIGATE,
    agent: Annotated[str | None, Field(description="Name of the agent who shall do it; nobody else can claim it then.")] = None,
    role: Annotated[str | None, Field(description="Only a node (or with executor='agent' an agent) of this role: lead, developer, analyst.")] = None,
    node: Node = None,
    engine: Annotated[str | None, Field(description="Only a node with this engine, such as llamacpp or minilm.")] = None,
    model: Model = None,
    min_vram_gib: Annotated[float, Field(ge=0, description="Only a node with so many GiB of memory on one GPU.")] = 0,
    gpus: Annotated[int, Field(ge=0, description="Only a node with so many GPUs.")] = 0,
    tags: Annotated[list[str] | None, Field(description="Only a node with all these tags, such as frag.")] = None,
    executor: Annotated[
        Executor | None,
        Field(
            description="agent: an agent claims and does it. node: a worker does it with its model. Omitted: node if role, node, engine … is given."
        ),
    ] = None,
    parameters: Annotated[dict[str, Any] | None, Field(description="Further inputs, as an object; a node's model reads them too.")] = None,
    priority: Annotated[int, Field(ge=1, le=10, description="1 can wait, 10 comes first.")] = 5,
    conversation_id: ConversationId = None,
    task_id: Annotated[
        str | None,
        Field(description="A name for the task that you choose («memory-profile»), unique in its conversation."),
    ] = None,
) -> Delegated:
    """Hand out a piece of work: to an agent by name, to any agent (of a role), or to a node chosen by role and capability.

    A node's task runs on the queue of the node that was chosen; read what came of it with federation_task_result. With no capable node
    alive it waits, and `waiting_for` says what is missing. Agents find a task in their inbox and take it with federation_claim_task.
    Without conversation_id everybody may see it.
    """
    given = {"role": role, "node": node, "engine": engine, "model": model, "min_vram_gib": min_vram_gib, "gpus": gpus, "tags": tuple(tags or ())}
    needs = {name: value for name, value in given.items() if value}
    executor = executor or (Executor.NODE if needs and agent is None else Executor.AGENT)
    _refuse_contradictions(executor, agent, needs)

    def work(session: Session) -> AgentTask:
        task = tasks.delegate(
            session,
            description,
            task_type=task_type,
            executor=executor,
            agent=agent,
            requirements=needs,
            parameters=parameters,
            priority=priority,
            conversation_id=conversation_id,
            slug=task_id,
        )
        if executor is Executor.AGENT and agent != call.caller.name:
            _announce(session, task)
        return task

    task = await call.transact(work)
    # Placement happens with the sending, after the commit: so this is another look.
    stands = await call.transact(lambda session: standing_of(session, task))
    return Delegated(
        task_id=task.id,
        slug=task.slug,
        conversation_id=task.conversation_id,
        executor=task.executor,
        state=stands.state if stands else task.status,
        node=stands.node if stands else None,
        assigned_to=task.assigned_to,
        execution_id=stands.execution_id if stands else None,
        waiting_for=stands.waiting_for if stands else None,
        note=stands.note if stands else None,
    )


def _refuse_contradictions(executor: Executor, agent: str | None, needs: Mapping[str, Any]) -> None:
    if executor is Executor.NODE and agent is not None:
        raise InvalidInput("agent", agent, "no agent where executor is 'node'; leave one of them out")
    others = sorted(needs.keys() - {"role"})
    if executor is Executor.AGENT and others:
        raise InvalidInput(others[0], needs[others[0]], "a task of executor 'node'; agents are chosen by name or role only")


def _announce(session: Session, task: AgentTask) -> None:
    # So that the task is in the inbox of those who may claim it: nobody would look for what he has not heard of.
    wanted = task.requirements.get("role")
    name = task.slug or task.id
    content = f"Task {name}{f' for the role {wanted}' if wanted else ''}: {task.description}\nClaim it with federation_claim_task('{name}')."
    data = {"task_id": str(task.id), "slug": task.slug, "role": wanted, "priority": task.priority}
    messages.send(session, content, to=task.assigned_to, message_type=MessageType.TASK, conversation_id=task.conversation_id, data=data)
