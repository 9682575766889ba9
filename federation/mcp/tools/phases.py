"""The tool to see in which phase a conversation is, and to move it on."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.charter import Phase
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, name
from federation.services import phase_moves
from federation.services.phase_moves import Standing


async def federation_phase(
    call: Call,
    conversation_id: Annotated[str, name("The conversation.", examples=["project-123"])],
    phase: Annotated[Phase | None, Field(description="Move it on to its next phase, or back to a former one. Omitted: only look.")] = None,
    reason: Annotated[str, Field(max_length=LONGEST_LINE, description="Why, for its members.")] = "",
) -> Standing:
    """See in which phase a conversation is (propose, discuss, decide, execute, review), what it takes to go on, and who has which role; or move it.

    Only the Lead moves it on, one phase at a time, when nothing is `missing`. The charter says what may not be done in a phase.
    """

    def work(session: Session) -> Standing:
        if phase is not None:
            phase_moves.move(session, conversation_id, phase, reason=reason)
        return phase_moves.standing(session, conversation_id)

    return await call.transact(work)
