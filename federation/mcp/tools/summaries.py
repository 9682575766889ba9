"""The tool to have a conversation summarised and to read its summaries, or as much of it as so many tokens hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, WaitS, name
from federation.mcp.waits import given_up, standing, value
from federation.services import catching_up, outcomes, summaries, summary_levels
from federation.services.catching_up import Gap, Line
from federation.services.executions import State
from federation.services.summaries import Asked, SummaryView
from federation.services.tokens import CHARACTERS_A_TOKEN


@dataclass(frozen=True, slots=True)
class Summaries:
    """The summaries of a conversation."""

    conversation_id: str
    summaries: Annotated[Sequence[SummaryView], Field(description="Oldest first, each where the one before it ended.")]
    complete: Annotated[bool, Field(description="They cover all that had been said to all when you called; with `tokens`: nothing is left out.")]
    execution_id: Annotated[UUID | None, Field(description="What summarises the rest; null: nothing had been said since the last summary.")]
    state: State | None
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]
    note: Annotated[str | None, Field(description="What to do next.")]
    messages: Annotated[
        Sequence[Line] | None,
        Field(description="With `tokens`: the latest messages, oldest first.", exclude_if=lambda told: told is None),
    ] = None
    left_out: Annotated[
        Sequence[Gap] | None, Field(description="With `tokens`: what did not fit and is not summarised here.", exclude_if=lambda told: told is None)
    ] = None


async def federation_summarize(
    call: Call,
    conversation_id: Annotated[
        str, name("The conversation; its members may read its summaries. «commons» is where everybody is.", examples=["project-123", "commons"])
    ],
    *,
    tokens: Annotated[
        int | None,
        Field(
            ge=200,
            le=40_000,
            description="For who joins late: read, within so many tokens of 4 characters, summaries and the latest messages word for word.",
        ),
        NUMBER,
    ] = None,
    part_of: Annotated[UUID | None, Field(description="Read instead what a summary of level 2 or more was made of: its summary_id.")] = None,
    wait_s: WaitS = 30,
) -> Summaries:
    """Read the summaries of a conversation; what was said since the last one is summarised first. Private messages stay out of summaries.

    Summaries are sentences that were really said, with their speakers. If `complete` is false, the last part is late: call again, and
    it goes on where it is. Long conversations have summaries of summaries. With `tokens` nothing more is summarised if it fits word for
    word, and `left_out` says what you do not see.
    """

    if part_of is not None:
        if tokens is not None:
            raise InvalidInput("part_of", str(part_of), "no `tokens` beside it")
        parts = await call.transact(lambda session: summary_levels.parts(session, conversation_id, part_of))
        return replace(_empty(conversation_id), summaries=parts, messages=None, left_out=None)

    def ask(session: Session) -> Asked | None:
        if tokens is not None and catching_up.fits(session, conversation_id, room=_room(tokens, _empty(conversation_id))):
            return None
        return summaries.request(session, conversation_id)

    asked = await call.transact(ask)

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
        told = _empty(conversation_id)
        if asked is not None:
            # Whoever summarised it: another's summary may have come first and cover all or a part of what was asked for.
            complete = summaries.covered(session, conversation_id) >= asked.upto
            stands = standing(session, asked.execution_id)
            told = replace(
                told, complete=complete, execution_id=asked.execution_id, state=stands.state, waiting_for=stands.waiting_for, note=stands.note
            )
        if tokens is None:
            return replace(told, summaries=summaries.read(session, conversation_id), messages=None, left_out=None)
        found = catching_up.read(session, conversation_id, room=_room(tokens, told))
        return replace(told, complete=not found.left_out, summaries=found.summaries, messages=found.messages, left_out=found.left_out)

    return await call.transact(read)


def _empty(conversation_id: str) -> Summaries:
    return Summaries(conversation_id, [], True, None, None, None, None, [], [])


def _room(tokens: int, told: Summaries) -> int:
    """Return how many characters are left beside what is told anyway."""
    return tokens * CHARACTERS_A_TOKEN - catching_up.size(told)
