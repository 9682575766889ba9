"""Tools to take a task, to give it back and to finish it; two never hold one task at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.lines import asked
from federation.mcp.tools.arguments import LONGEST_LINE, FencingToken, InConversation, LineS, StatementSignature, StatementText, TaskReference, TtlS
from federation.security.statements import presented
from federation.services import task_claims
from federation.services.claims import ClaimOutcome
from federation.store.models.tasks import TaskStatus


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """Who holds the task."""

    claimed: Annotated[bool, Field(description="You hold it. False: do not work on it; see `note`.")]
    holder: str | None
    fencing_token: Annotated[int | None, Field(description="Yours if you hold it: federation_complete_task asks for it.")]
    expires_at: Annotated[datetime | None, Field(description="When the holder's claim lapses, if it is not extended before.")]
    note: Annotated[str | None, Field(description="What to do next.")]


@dataclass(frozen=True, slots=True)
class Released:
    """Whether you held the task and have given it back."""

    released: Annotated[bool, Field(description="False: you did not hold it (any more), and nothing was changed.")]


@dataclass(frozen=True, slots=True)
class Completed:
    """The task as it ended."""

    task_id: UUID
    slug: str | None
    state: TaskStatus
    completed_at: datetime | None


async def federation_claim_task(
    call: Call,
    task_id: TaskReference,
    *,
    description: Annotated[
        str, Field(max_length=LONGEST_LINE, description="What you are about to do, for those who look on.", examples=["Running valgrind"])
    ] = "",
    ttl_s: TtlS = None,
    wait_s: LineS = 0,
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> ClaimAnswer:
    """Take a task before you work on it. One agent wins; for the others `claimed` is false and `holder` says who has it until when.

    If you win, keep `fencing_token` for federation_complete_task, and claim again before `expires_at` if you need longer: that extends
    the time and keeps the token. If you lose, do not work on it: take another task, wait in line with `wait_s`, or wait with
    federation_task_result(task_id, wait_s=600) for its end. If your own claim lapsed, somebody else may have the task: claim again, and
    if you win, look at what has changed meanwhile; the old token is worth nothing.
    """
    lasting_s = call.settings.claim_ttl_s if ttl_s is None else ttl_s
    voice = presented(statement, signature)

    def ask(session: Session, present_s: float | None) -> ClaimOutcome:
        return task_claims.claim(session, task_id, description=description, ttl_s=lasting_s, conversation_id=conversation_id, present_s=present_s)

    outcome = await asked(call, ask, wait_s=wait_s, voice=voice)
    note = None if outcome.claimed else _advice(outcome)
    return ClaimAnswer(outcome.claimed, outcome.holder, outcome.fencing_token, outcome.expires_at, note)


def _advice(lost: ClaimOutcome) -> str:
    if lost.holder is None:
        return "others wait for it before you; take another task, or wait in line with wait_s"
    return f"{lost.holder} holds it; take another task, or wait for its end with federation_task_result and wait_s"


async def federation_release_task(
    call: Call,
    task_id: TaskReference,
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Released:
    """Give back a task that you hold and will not finish, so that others may claim it.

    Tell why with federation_send if it helps the next one. To end a task that cannot be done, use federation_complete_task with
    success=false.
    """
    voice = presented(statement, signature)
    return Released(await call.transact(lambda session: task_claims.release(session, task_id, conversation_id=conversation_id), voice=voice))


async def federation_complete_task(
    call: Call,
    task_id: TaskReference,
    *,
    fencing_token: FencingToken,
    result: Annotated[
        dict[str, Any], Field(description="What came of it, as an object; read by others with federation_task_result.", examples=[{"leaks": 0}])
    ],
    success: Annotated[bool, Field(description="False if it cannot be done; say why in the result.")] = True,
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Completed:
    """Record the result of a task that you hold, and end it for good.

    Refused for anybody else and for a claim that lapsed: then claim the task again and look at what has changed before you complete it.
    If the connection breaks before the answer, call again with the same arguments: the task ends once.
    """

    voice = presented(statement, signature)

    def work(session: Session) -> Completed:
        task = task_claims.complete(session, task_id, fencing_token=fencing_token, result=result, success=success, conversation_id=conversation_id)
        return Completed(task.id, task.slug, TaskStatus(task.status), task.completed_at)

    return await call.transact(work, voice=voice)
