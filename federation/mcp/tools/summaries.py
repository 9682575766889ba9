"""The tool to have a conversation summarised and to read its summaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import Conflict
from federation.mcp.door import Call
from federation.mcp.tools.arguments import WaitS
from federation.mcp.waits import ExecutionFailed, given_up, standing
from federation.services import outcomes, summaries
from federation.services.summaries import SummaryView


@dataclass(frozen=True, slots=True)
class Summaries:
    """All summaries of a conversation, oldest first; `complete` says that the last reaches the newest message."""

    conversation_id: str
    summaries: Sequence[SummaryView]
    complete: bool
    execution_id: UUID | None
    state: str | None
    waiting_for: str | None
    note: str | None


async def federation_summarize(
    call: Call,
    conversation_id: Annotated[str, Field(description="The conversation; its members may read its summaries. «commons» is where everybody is.")],
    wait_s: WaitS = 30,
) -> Summaries:
    """Read the summaries of a conversation; what was said since the last one is summarised first. Private messages stay out of summaries."""
    execution_id = await call.transact(lambda session: _request(session, conversation_id))
    if execution_id is None:
        return Summaries(conversation_id, await call.transact(lambda session: summaries.read(session, conversation_id)), True, None, None, None, None)

    def look(session: Session) -> bool | None:
        ended = outcomes.ended(session, execution_id) or given_up(session, execution_id)
        if ended is not None and not ended.succeeded:
            raise ExecutionFailed(ended.error or f"execution {execution_id} failed")
        return True if ended is not None else None

    done = await call.until(look, wait_s=wait_s, executions=[execution_id], waiting=f"summarising {conversation_id}")

    def read(session: Session) -> Summaries:
        stands = standing(session, execution_id)
        found = summaries.read(session, conversation_id)
        return Summaries(conversation_id, found, bool(done), execution_id, stands.state, stands.waiting_for, stands.note)

    return await call.transact(read)


def _request(session: Session, conversation_id: str) -> UUID | None:
    try:
        return summaries.request(session, conversation_id)
    except Conflict:
        # Nothing was said since the last summary: there is nothing to wait for.
        return None
