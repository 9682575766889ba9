"""The tool by which the Lead designates who does what in a conversation."""

import uuid
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import StatementSignature, StatementText, name, text
from federation.security.statements import presented
from federation.services import assignments, conversations
from federation.store.models.tasks import AgentTask, TaskStatus


@dataclass(frozen=True, slots=True)
class Assigned:
    """Who is to do what, as which role; the agent has been told."""

    task_id: uuid.UUID
    slug: str | None
    conversation_id: str
    agent: str
    role: str
    state: TaskStatus
    warning: Annotated[str | None, Field(description="That more are in the conversation than the charter wants.")]


async def federation_assign_role(
    call: Call,
    conversation_id: Annotated[str, name("The conversation; a new name opens one. The agent becomes a member.", examples=["project-123"])],
    agent: Annotated[str, name("Who shall do it. See federation_pulse.", examples=["bob"])],
    role: Annotated[str, name("As what: a role of the charter. It gives no right that the agent does not have.", examples=["developer"])],
    subtask: Annotated[
        str,
        text(
            "What the agent is to do; or the name or UUID of a task of this conversation that nobody works on, which is the agent's then.",
            examples=["Profile memory allocation in auth module"],
        ),
    ],
    *,
    task_id: Annotated[
        str | None, name("As in federation_delegate: a name for the new task, which makes it once.", examples=["memory-profile"])
    ] = None,
    parent: Annotated[str | None, name("The task that the new one is a part of, by UUID or name.", examples=["release-1"])] = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Assigned:
    """Designate an agent for a role in a conversation, with a piece of work that is his alone. Only the Lead may (or whose role may designate).

    The agent finds it in the inbox and takes it with federation_claim_task. federation_phase shows who has which role.
    """
    voice = presented(statement, signature)

    def work(session: Session) -> tuple[AgentTask, str | None]:
        before = conversations.count(session, conversation_id)
        task = assignments.assign(session, agent, role, subtask, conversation_id=conversation_id, slug=task_id, parent=parent)
        return task, conversations.crowded(session, conversation_id, before=before)

    task, warning = await call.transact(work, voice=voice)
    return Assigned(task.id, task.slug, task.conversation_id, agent, role, TaskStatus(task.status), warning)
