"""The tool to hand out work to agents and to nodes."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.references import standing_of
from federation.mcp.tools.arguments import NUMBER, ConversationId, Model, Moment, Node, StatementSignature, StatementText, name, text
from federation.mcp.tools.tasks import note_on
from federation.security.statements import presented
from federation.services import approvals, conversations, delegation, task_terms, tasks
from federation.services.conversations import COMMONS
from federation.services.executions import State
from federation.store.models.tasks import AgentTask, Executor, TaskStatus, TaskType


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task that is recorded for good."""

    task_id: uuid.UUID
    slug: Annotated[str | None, Field(description="The name that you chose for it as task_id.")]
    conversation_id: str
    executor: Executor
    state: Annotated[State | TaskStatus, Field(description="Of a node's task that of its execution, else the task's own.")]
    node: Annotated[str | None, Field(description="The node that it was sent to.")]
    assigned_to: Annotated[str | None, Field(description="The agent or node that has it.")]
    execution_id: Annotated[uuid.UUID | None, Field(description="The execution that does a node's task.")]
    waiting_for: Annotated[
        str | None, Field(description="Whose approval it awaits; or what a node must have that none alive has, and it starts when one comes.")
    ]
    expires_at: Annotated[datetime | None, Field(description="When it ends as expired if it is not done.")]
    note: Annotated[str | None, Field(description="What to do next.")]


async def federation_delegate(
    call: Call,
    description: Annotated[
        str,
        text("What is to be done, complete enough for somebody who knows nothing else.", examples=["Profile the memory of the auth module"]),
    ],
    *,
    task_type: Annotated[
        TaskType,
        Field(description="What kind of work it is. A node's report summarises the conversation; the other kinds are answered by its model."),
    ] = TaskType.INVESTIGATE,
    agent: Annotated[
        str | None,
        name("Name of the one agent who shall do it; nobody else can claim it then. See federation_pulse.", examples=["bob"]),
    ] = None,
    role: Annotated[
        str | None, name("Only a node, or with executor='agent' an agent, of this role: lead, developer, analyst.", examples=["developer"])
    ] = None,
    capability: Annotated[
        str | None,
        name(
            "For the first agent who claims it of those who say that they can do this; one who says so later is told of it.",
            examples=["analyze_logs"],
        ),
    ] = None,
    node: Node = None,
    engine: Annotated[str | None, name("Only a node with this engine, such as llamacpp or minilm.", examples=["llamacpp"])] = None,
    model: Model = None,
    min_vram_gib: Annotated[
        float,
        Field(ge=0, le=100_000, description="Only a node with so many GiB of memory on one GPU. Of today's engines minilm alone can use one."),
        NUMBER,
    ] = 0,
    gpus: Annotated[int, Field(ge=0, le=10_000, description="Only a node with so many GPUs."), NUMBER] = 0,
    tags: Annotated[
        list[Annotated[str, name("A tag.")]] | None,
        Field(max_length=20, description="Only a node with all these tags. See federation_pulse.", examples=[["frag"]]),
    ] = None,
    executor: Annotated[
        Executor | None,
        Field(
            description="agent: an agent claims and does it. node: a worker does it with its model. person: an agent of the role human does it. "
            "Omitted: node if role, node, engine, model, min_vram_gib, gpus or tags is given and agent is not, else agent."
        ),
    ] = None,
    parameters: Annotated[
        dict[str, Any] | None,
        Field(description="Further inputs, as an object; a node's model reads them too.", examples=[{"module": "auth"}]),
    ] = None,
    look_up: Annotated[
        bool,
        Field(
            description="A node's model reads what is found about the description in files that are indexed for all or for members of the "
            "conversation, who read the answer; the result names the places."
        ),
    ] = False,
    priority: Annotated[int, Field(ge=1, le=10, description="1 can wait, 10 comes first."), NUMBER] = 5,
    start_at: Annotated[
        Moment | None,
        Field(
            description="A node begins no earlier: date and time with a zone. The node is chosen then, among those that live then.",
            examples=["2030-01-31T18:00:00+01:00"],
        ),
    ] = None,
    timeout_s: Annotated[
        float | None,
        Field(
            ge=task_terms.SHORTEST_S,
            le=task_terms.LONGEST_S,
            description="Seconds from when it may begin; then it ends as expired with its parts, whoever has it. Omitted: never.",
        ),
        NUMBER,
    ] = None,
    parent: Annotated[
        str | None,
        name(
            "The task that it is a part of, by UUID or name; it stands in its conversation. federation_task_status shows them.",
            examples=["release-1"],
        ),
    ] = None,
    requires_approval: Annotated[
        bool, Field(description="It waits until an agent whose role may approve, or an operator, lets it begin: a proposal. See federation_approve.")
    ] = False,
    conversation_id: ConversationId = None,
    task_id: Annotated[
        str | None,
        name(
            "A name for the task that you choose, unique in its conversation. If the connection breaks before the answer, call again with the "
            "same name and the same arguments: the task is made once.",
            examples=["memory-profile"],
        ),
    ] = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Delegated:
    """Hand out a piece of work: to an agent by name, to any (of a role, or who can do something), to a person, or to a node chosen by what it has.

    Examples: agent='bob' is for bob alone; executor='agent', role='developer' is for the first developer who claims it; neither agent nor
    role nor any need of a node is for the first agent who claims it; role='analyst' alone, or executor='node', is done by a node's model.
    Agents find the task in their inbox and take it with federation_claim_task. A node begins by itself. In both cases
    federation_task_result(task_id, wait_s=60) waits for what comes of it. Only members of its conversation see a task there, and without
    conversation_id everybody. With no capable node alive the task is kept: `state` is
    unplaced, `waiting_for` says what is missing, and it starts when such a node comes. What your role may hand out, and to whom, is in the
    charter (federation://charter).
    """
    given = {"role": role, "node": node, "engine": engine, "model": model, "min_vram_gib": min_vram_gib, "gpus": gpus, "tags": tuple(tags or ())}
    needs = {name: value for name, value in given.items() if value}
    executor = task_terms.executor_for(executor, agent=agent, capability=capability, needs=needs)
    voice = presented(statement, signature)

    def work(session: Session) -> tuple[AgentTask, str | None, str | None]:
        before = conversations.count(session, conversation_id) if conversation_id else 0
        task = delegation.hand_out(
            session,
            description,
            task_type=task_type,
            executor=executor,
            agent=agent,
            requirements=needs,
            capability=capability,
            parameters=parameters,
            look_up=look_up,
            priority=priority,
            conversation_id=conversation_id,
            slug=task_id,
            parent=parent,
            start_at=start_at,
            timeout_s=timeout_s,
            requires_approval=requires_approval,
        )
        crowd = conversations.crowded(session, task.conversation_id, before=before) if agent and conversation_id else None
        lonely = None if task.executor == Executor.NODE or tasks.claimants(session, task) else _lonely(task)
        return task, approvals.waits_for(session, task), lonely or crowd

    task, approval, note = await call.transact(work, voice=voice)
    # Placement happens with the sending, after the commit: so this is another look.
    stands = await call.transact(lambda session: standing_of(session, task)) if task.executor == Executor.NODE else None
    return Delegated(
        task_id=task.id,
        slug=task.slug,
        conversation_id=task.conversation_id,
        executor=Executor(task.executor),
        state=stands.state if stands else TaskStatus(task.status),
        node=stands.node if stands else None,
        assigned_to=task.assigned_to,
        execution_id=stands.execution_id if stands else None,
        waiting_for=approval or (stands.waiting_for if stands else None),
        expires_at=task.expires_at,
        note=stands.note if stands else PARKED if approval else note or note_on(task),
    )


PARKED = "It begins when it is approved, and ends if it is rejected: federation_task_result waits for either."


def _lonely(task: AgentTask) -> str:
    role = task_terms.role_for(task)
    wanted = f" of the role {role}" if role else ""
    if task.capability is not None:
        wanted += f" who says that he can {task.capability}"
    if task.conversation_id == COMMONS:
        return f"There is no agent{wanted} yet; the first one that comes may claim it."
    return (
        f"Nobody in {task.conversation_id} may claim it: no agent{wanted} is a member. Bring one in with "
        f"federation_send(to=…, conversation_id='{task.conversation_id}'), which names the task."
    )
