"""Waiting for what an execution comes to, and saying in words where it stands when it is late."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from federation.errors import PermanentError
from federation.mcp.door import Call
from federation.services import executions, outcomes
from federation.services.executions import ExecutionView, State
from federation.services.outcomes import Outcome
from federation.store.outbox import parked_key

# So long after a look what is told of its progress says that an execution runs: what ends otherwise than by a result is seen by the next whole look.
LOOK_WHOLE_S = 5.0


class ExecutionFailed(PermanentError):
    """An execution ended without a value; the text is the error that ended it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an execution stands: on which node, delivered how often, and what it waits for."""

    execution_id: UUID
    state: State
    node: str | None
    worker: str | None
    deliveries: int
    waiting_for: str | None
    note: str | None

    @property
    def is_unplaced(self) -> bool:
        """No live node can do it: who waits for it may wait for ever."""
        return self.state is State.UNPLACED


def standing(session: Session, execution_id: UUID) -> Standing:
    """Return where an execution stands. Raises NotFound."""
    return _standing(executions.state(session, execution_id))


def _standing(view: ExecutionView) -> Standing:
    return Standing(view.id, view.state, view.node, view.worker, view.deliveries, view.waiting_for, _note(view))


def _note(view: ExecutionView) -> str | None:
    if view.state is State.RECORDED:
        return "recorded; ActiveMQ has not taken it yet, and it will be sent as soon as it does"
    if view.state is State.UNPLACED and view.due_at is not None and view.due_at > datetime.now(UTC):
        return f"recorded; a node is chosen at {view.due_at.isoformat()}: federation_task_result waits for that"
    if view.state is State.UNPLACED:
        return "recorded; it starts by itself when a node that can do it announces itself: federation_task_result waits for that"
    if view.state is State.RUNNING and view.progress is not None:
        done, total, note = (view.progress.get(name) for name in ("done", "total", "note"))
        return f"{done} of {total}" + (f": {note}" if note else "")
    if view.state is State.QUARANTINED:
        return "put aside after too many failed deliveries; an operator can send it again"
    return None


class _Growing:
    """A text that an execution tells as it grows: what of it is new since it was last asked for."""

    def __init__(self) -> None:
        self._text = self._told = ""

    def hear(self, progress: Mapping[str, Any] | None) -> None:
        """Take what is there by now."""
        if progress is not None:
            self._text = progress.get("note") or ""

    def news(self) -> str | None:
        """Return what came since the last time; all of it where it began anew, None for nothing."""
        text, told = self._text, self._told
        self._told = text
        return (text[len(told) :] if text.startswith(told) else text) or None


async def value_of(
    call: Call, execution_id: UUID, *, wait_s: float, waiting: str, record: Callable[[Session], object] | None = None
) -> tuple[Any, Standing]:
    """Wait for an execution's value; with it, or with None when it is late, return where it stands.

    One that is not recorded yet is recorded first, by `record`. A client that asked for progress is told what it says of its progress. What no
    live node can do is not waited for. Raises ExecutionFailed when it ended without a value, NotFound for another's execution.
    """
    growing = _Growing()
    # What is recorded here is the caller's, and has not ended yet.
    is_mine, looked = record is not None, time.monotonic()

    def look(session: Session) -> tuple[Outcome | None, Standing]:
        nonlocal is_mine, looked
        if not is_mine:
            # Once, because whose it is does not change, and each part of an answer has this look.
            outcomes.require_asker(session, execution_id)
            is_mine = True
        view = executions.state(session, execution_id)
        growing.hear(view.progress)
        looked = time.monotonic()
        stands = _standing(view)
        return outcomes.of(session, view) or given_up(stands), stands

    def settled(session: Session) -> tuple[Outcome | None, Standing] | None:
        # Each part of an answer comes here: while it is told of, that it runs is known without asking where it stands.
        if is_mine and time.monotonic() < looked + LOOK_WHOLE_S and (progress := executions.told(session, execution_id)) is not None:
            growing.hear(progress)
            return None
        ended, stands = look(session)
        return (ended, stands) if ended is not None or stands.is_unplaced else None

    found: tuple[Outcome | None, Standing] | None = await call.until(
        settled,
        wait_s=wait_s,
        notices=[parked_key(execution_id)],
        executions=[execution_id],
        waiting=waiting,
        news=growing.news,
        begin=record,
    )
    if found is None:
        # Its end may have come without a notice, and is told all the same.
        found = await call.transact(look)
    ended, stands = found
    return (None if ended is None else value(ended)), stands


def value(ended: Outcome) -> Any:
    """Return the value of an execution that has ended. Raises ExecutionFailed if it has none."""
    if not ended.succeeded:
        raise ExecutionFailed(ended.error or f"execution {ended.execution_id} failed")
    return ended.value


def given_up(stands: Standing) -> Outcome | None:
    """Return the end of an execution that will never store a result; None while it may."""
    if stands.state not in {State.QUARANTINED, State.CANCELLED}:
        return None
    return Outcome(stands.execution_id, False, None, stands.note or f"execution {stands.execution_id} was cancelled; ask again if it is still wanted")
