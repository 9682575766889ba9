"""Asking for a claim, and waiting in line for it: woken by who gives it back, and by the clock when the holder's time is over; polls nothing."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.security.statements import Voice
from federation.services import claim_lines
from federation.services.claims import ClaimOutcome

# So that the holder's time is over by then.
_AFTER_S = 0.02


async def asked(call: Call, ask: Callable[[Session, float | None], ClaimOutcome], *, wait_s: float, voice: Voice | None = None) -> ClaimOutcome:
    """Ask for a claim once, or, in line, until it is won or for `wait_s` seconds; return the last answer.

    `ask` is told for how many seconds who loses counts as present in the line, None: he does not wait. The voice speaks when it is won.
    """
    if wait_s <= 0:
        return await call.transact(lambda session: ask(session, None), voice=voice)
    last: list[ClaimOutcome] = []

    def look(session: Session) -> ClaimOutcome | None:
        last[:] = [ask(session, claim_lines.PRESENT_S)]
        return last[0] if last[0].claimed else None

    def again_s() -> float:
        # Only the first in line would win anything by then.
        free_in_s = last[0].free_in_s if last[0].place == 1 else None
        return claim_lines.LOOK_S if free_in_s is None else min(claim_lines.LOOK_S, max(free_in_s, 0.0) + _AFTER_S)

    notices = [claim_lines.key(call.caller.name)]
    await call.until(look, wait_s=wait_s, notices=notices, waiting="waiting in line", again_s=again_s, voice=voice)
    return last[0]
