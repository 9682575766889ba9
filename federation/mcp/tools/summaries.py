"""The tool to have a conversation summarised and to read its summaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import WaitS, name
from federation.mcp.waits import given_up, standing, value
from federation.services import outcomes, summaries
from federation.services.executions import State
from federation.services.summaries import SummaryView


@dataclass(frozen=True, slots=True)
class Summaries:
    """All summaries of a conversation."""

    conversation_id: str
    summaries: Annotated[Sequence[SummaryView], Field(description="Oldest first, each where the one before it ended.")]
    complete: Annotated[bool, Field(description="They cover all that had been said to all members when you called.")]
    execution_id: Annotated[UUID | None, Field(description="What summarises the rest; null: nothing had been said since the last summary.")]
    state: State | None
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]
    note: Annotated[str | None, Field(description="What to do next.")]


async def federation_summarize(
    call: Call,
    conversation_id: Annotated[
        str, name("The conversation; its members may read its summaries. «commons» is where everybody is.", examples=["project-123", "commons"])
    ],
    wait_s: WaitS = 30,
) -> Summaries:
    """Read the summaries of a conversation; what was said since the last one is summarised first. Private messages stay out of summaries.

    Summaries are sentences that were really said, with their speakers. If `complete` is false, the last part is late: call again, and
    it goes on where it is.
    """
    asked = await call.transact(lambda session: summaries.request(session, conversation_id))

    def look(session: Session) -> bool | None:
        if asked is None or summaries.covered(session, conversation_id) >= asked.upto:
            return True
        stands = standing(session, asked.execution_id)
        if ended := outcomes.ended(session, asked.execution_id) or given_up(stands):
            value(ended)
        return True if stands.is_unplaced else None

    if asked is not None:
        notices = [f"summaries:{conversation_id}"]
        await call.until(look, wait_s=wait_s, notices=notices, executions=[asked.execution_id], waiting=f"summarising {conversation_id}")

    def read(session: Session) -> Summaries:
        found = summaries.read(session, conversation_id)
        if asked is None:
            return Summaries(conversation_id, found, True, None, None, None, None)
        # Whoever summarised it: another's summary may have come first and cover all or a part of what was asked for.
        complete = summaries.covered(session, conversation_id) >= asked.upto
        stands = standing(session, asked.execution_id)
        return Summaries(conversation_id, found, complete, asked.execution_id, stands.state, stands.waiting_for, stands.note)

    return await call.transact(read)
