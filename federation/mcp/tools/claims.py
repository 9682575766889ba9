"""Tools to take a task, to give it back and to finish it; two never hold one task at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import InConversation, TaskReference
from federation.mcp.waits import value_of
from federation.services import tasks

# A claim is an execution of milliseconds; who has waited this long gets a handle, because something is away.
DECIDED_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """Who holds the task. `decided` is false when no worker has decided yet: then ask federation_task_result(execution_id)."""

    decided: bool
    claimed: bool
    holder: str | None
    fencing_token: int | None
    expires_at: datetime | None
    execution_id: UUID
    state: str
    waiting_for: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Released:
    """Whether you held the task and have given it back."""

    released: bool


@dataclass(frozen=True, slots=True)
class Completed:
    """The task as it ended."""

    task_id: UUID
    slug: str | None
    state: str
    completed_at: datetime | None


async def federation_claim_task(
    call: Call,
    task_id: TaskReference,
    *,
    description: Annotated[str, Field(description="What you are about to do, for those who look on.")] = "",
    ttl_s: Annotated[float | None, Field(description="Seconds that the claim holds, 1 to 86400; omitted: 300. Claim again to extend it.")] = None,
    conversation_id: InConversation = None,
) -> ClaimAnswer:
    """Take a task before you work on it. One agent wins; for the others `claimed` is false and `holder` says who has it until when.

    Keep `fencing_token`: federation_complete_task asks for it. The holder's second claim extends the time and keeps the token. A claim that
    lapses may be taken over, and then the old token is worth nothing.
    """
    lasting_s = call.settings.claim_ttl_s if ttl_s is None else ttl_s

    def ask(session: Session) -> UUID:
        return tasks.request_claim(session, task_id, description=description, ttl_s=lasting_s, conversation_id=conversation_id)

    execution_id = await call.transact(ask)
    value, stands = await value_of(call, execution_id, wait_s=DECIDED_WITHIN_S, waiting="the claim is being decided")
    decided: dict[str, Any] = value or {}
    return ClaimAnswer(
        decided=value is not None,
        claimed=decided.get("claimed", False),
        holder=decided.get("holder"),
        fencing_token=decided.get("fencing_token"),
        expires_at=datetime.fromisoformat(decided["expires_at"]) if value else None,
        execution_id=execution_id,
        state=stands.state,
        waiting_for=stands.waiting_for,
        note=stands.note,
    )


async def federation_release_task(call: Call, task_id: TaskReference, conversation_id: InConversation = None) -> Released:
    """Give back a task that you hold, so that others may claim it."""
    return Released(await call.transact(lambda session: tasks.release(session, task_id, conversation_id=conversation_id)))


async def federation_complete_task(
    call: Call,
    task_id: TaskReference,
    *,
    fencing_token: Annotated[int, Field(description="The token that federation_claim_task gave you.")],
    result: Annotated[dict[str, Any], Field(description="What came of it, as an object; read by others with federation_task_result.")],
    success: Annotated[bool, Field(description="False if it cannot be done; say why in the result.")] = True,
    conversation_id: InConversation = None,
) -> Completed:
    """Record the result of a task that you hold, and end it. Refused for anybody else, and for a claim that lapsed."""

    def work(session: Session) -> Completed:
        task = tasks.complete(session, task_id, fencing_token=fencing_token, result=result, success=success, conversation_id=conversation_id)
        return Completed(task.id, task.slug, task.status, task.completed_at)

    return await call.transact(work)
