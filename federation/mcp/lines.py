"""Waiting in line for a claim: woken by who gives it back, and by the clock when the holder's time is over; polls nothing."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.services import claim_lines
from federation.services.claims import ClaimOutcome

# So that the holder's time is over by then.
_AFTER_S = 0.02


async def in_line(call: Call, ask: Callable[[Session], ClaimOutcome], *, wait_s: float) -> ClaimOutcome:
    """Ask for a claim until it is won, or for `wait_s` seconds; `ask` stands in line while it loses. Return the last answer."""
    last: list[ClaimOutcome] = []

    def look(session: Session) -> ClaimOutcome | None:
        last[:] = [ask(session)]
        return last[0] if last[0].claimed else None

    def again_s() -> float:
        # Only the first in line would win anything by then.
        free_in_s = last[0].free_in_s if last[0].place == 1 else None
        return claim_lines.LOOK_S if free_in_s is None else min(claim_lines.LOOK_S, max(free_in_s, 0.0) + _AFTER_S)

    await call.until(look, wait_s=wait_s, notices=[claim_lines.key(call.caller.name)], waiting="waiting in line", again_s=again_s)
    return last[0]
