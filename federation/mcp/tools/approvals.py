"""The tool to decide on a task that awaits approval."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.references import standing_of
from federation.mcp.tools.arguments import LONGEST_LINE, InConversation, StatementSignature, StatementText, TaskReference
from federation.security.statements import presented
from federation.services import approvals
from federation.services.approvals import Decision
from federation.services.executions import State
from federation.store.models.tasks import AgentTask, TaskStatus


@dataclass(frozen=True, slots=True)
class Decided:
    """The task as it stands after the decision."""

    task_id: UUID
    slug: str | None
    state: Annotated[State | TaskStatus, Field(description="Of a rejected task cancelled; of a node's task that of its execution.")]
    decided_by: str | None
    assigned_to: Annotated[str | None, Field(description="The agent or node that has it.")]
    execution_id: Annotated[UUID | None, Field(description="The execution that does a node's task.")]
    node: Annotated[str | None, Field(description="The node that it was sent to.")]
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]


async def federation_approve(
    call: Call,
    task_id: TaskReference,
    decision: Annotated[Decision, Field(description="approve: it begins now. reject: it ends as cancelled.", examples=["approve"])],
    *,
    reason: Annotated[
        str, Field(max_length=LONGEST_LINE, description="Why, for who asked for it; a rejection needs one.", examples=["Tested on a copy first"])
    ] = "",
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Decided:
    """Decide on a task that awaits approval, for good: the first decision counts.

    For agents whose role may approve by the charter (federation://charter), and not for your own requests unless it says so. What waits for
    you is in your inbox, and in `awaiting_approval` of federation_pulse: read its description and its terms first, which are what will run.
    """

    voice = presented(statement, signature)

    def work(session: Session) -> AgentTask:
        return approvals.decide(session, task_id, decision, reason=reason, conversation_id=conversation_id)

    task = await call.transact(work, voice=voice)
    # Placement happens with the sending, after the commit: so this is another look.
    stands = await call.transact(lambda session: standing_of(session, task))
    ended = task.status == TaskStatus.CANCELLED
    return Decided(
        task_id=task.id,
        slug=task.slug,
        state=stands.state if stands and not ended else TaskStatus(task.status),
        decided_by=task.decided_by,
        assigned_to=task.assigned_to,
        execution_id=stands.execution_id if stands else None,
        node=stands.node if stands else None,
        waiting_for=stands.waiting_for if stands else None,
    )
