"""What a transaction knows about its caller; set once by `federation.transaction`, read by services, the event log and the columns of actors."""

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

_KEY = "federation"
# Holds the actor in the database too, for the length of the transaction.
ACTOR_SETTING = "federation.actor"


@dataclass(slots=True)
class Context:
    """Who acts, under which trace, in which execution, and what is to be done once the transaction is committed."""

    actor: str
    trace_id: str
    execution_id: uuid.UUID | None = None
    outbox: list[uuid.UUID] = field(default_factory=list)
    cancelled: list[uuid.UUID] = field(default_factory=list)
    notices: set[str] = field(default_factory=set)
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


@contextmanager
def on_behalf_of(session: Session, actor: str, *, trace_id: str) -> Iterator[None]:
    """Do here, in the name and the trace of somebody, what he asked for himself and what was put off until now."""
    who = context(session)
    before = who.actor, who.trace_id
    _act_as(session, actor, trace_id)
    yield
    # What follows is the caller's again; after an error nothing does.
    session.flush()
    _act_as(session, *before)


def _act_as(session: Session, actor: str, trace_id: str) -> None:
    who = context(session)
    who.actor, who.trace_id = actor, trace_id
    session.execute(text("SELECT set_config(:setting, :actor, true)"), {"setting": ACTOR_SETTING, "actor": actor})


def notify(session: Session, keys: Iterable[str]) -> None:
    """Wake those who wait for `keys` (such as `inbox:baby`) after the commit."""
    context(session).notices.update(keys)
