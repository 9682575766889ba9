"""Has the supervisor start a part anew, so that it reads what it was given since its last start; starts nothing itself."""

import os
import signal

from federation.errors import Conflict, LocalServiceError
from federation.local import children, state
from federation.local.home import Home
from federation.local.state import PartState, PartView, Phase

# One that hangs is killed after so long, and is to answer again after so long.
_GRACE_S, _WITHIN_S = 30.0, 90.0


def check(home: Home) -> None:
    """Pass if parts may start anew, or none runs. Raises Conflict while the federation starts or stops."""
    view = state.running(home)
    if view is not None and view.phase is not Phase.RUNNING:
        raise Conflict(f"the federation is {view.phase.value}; try again when it runs: federation status")


def start_anew(name: str, home: Home) -> bool:
    """End a part, by force where it does not end, and wait until it answers again; False where no supervisor of this data directory runs it.

    Raises LocalServiceError, Conflict.
    """
    check(home)
    before = _part(name, home)
    if before is None:
        return False
    if before.pid is not None and before.alive:
        os.kill(before.pid, signal.SIGTERM)
        if not children.wait_until(lambda: not _lives(before, home), _GRACE_S):
            os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = _part(name, home)
        return now is None or (now.state is PartState.RUNNING and now.pid != before.pid)

    if not children.wait_until(is_back, _WITHIN_S):
        raise LocalServiceError(f"{name} was to start anew and does not answer; see {home.log(name)}, and federation status")
    return True


def _lives(before: PartView, home: Home) -> bool:
    now = _part(before.name, home)
    return now is not None and now.pid == before.pid and now.alive


def _part(name: str, home: Home) -> PartView | None:
    view = state.running(home)
    return None if view is None else next((part for part in view.parts if part.name == name), None)
