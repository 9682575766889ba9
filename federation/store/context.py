"""What a transaction knows about its caller; set once by `federation.transaction`, read by services, the event log and the columns of actors."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

_KEY = "federation"
# Holds the actor in the database too, for the length of the transaction.
ACTOR_SETTING = "federation.actor"


class Unsent(NamedTuple):
    """An execution that waits in the outbox, and what its node is chosen by."""

    execution_id: uuid.UUID
    requirements: Mapping[str, Any]
    affinity: str | None
    waiting_for: str | None = None


class Told(NamedTuple):
    """An event that was put down: its stream, its position if that was taken, and all of it as JSON.

    Whether there is a statement in that to be written too, and who says why it was not kept.
    """

    stream: str
    position: int | None
    line: str
    states: bool
    unkept: Callable[[], object] | None


@dataclass(slots=True)
class Context:
    """Who acts, under which trace, in which execution, and what is to be done once the transaction is committed."""

    actor: str
    trace_id: str
    execution_id: uuid.UUID | None = None
    outbox: list[Unsent] = field(default_factory=list)
    cancelled: list[uuid.UUID] = field(default_factory=list)
    notices: set[str] = field(default_factory=set)
    # What `event_log` appends before the commit.
    events: list[Told] = field(default_factory=list)
    # Those that there were when an attempt began.
    attempts: dict[object, list[Told]] = field(default_factory=dict)
    # Of agents that were looked up, by name.
    roles: dict[str, str] = field(default_factory=dict)
    # A session forgets a row that nobody refers to, and would read it again.
    kept: list[object] = field(default_factory=list)
    # By PostgreSQL's clock, and by this process's stopwatch at that moment.
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    began_s: float = field(default_factory=time.monotonic)

    def now(self) -> datetime:
        """Return what PostgreSQL's clock says, without asking it again."""
        return self.began + timedelta(seconds=time.monotonic() - self.began_s)


def attach(session: Session, context: Context) -> None:
    """Give a session its context."""
    session.info[_KEY] = context


def context(session: Session) -> Context:
    """Return the context of a session; without one nothing may be written, because no row is without an actor."""
    found: Context = session.info[_KEY]
    return found


def found_context(session: Session) -> Context | None:
    """Return the context of a session, None for one that was opened for something else."""
    return session.info.get(_KEY)


def notify(session: Session, keys: Iterable[str]) -> None:
    """Wake those who wait for `keys` (such as `inbox:baby`) after the commit."""
    context(session).notices.update(keys)
