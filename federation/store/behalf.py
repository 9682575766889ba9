"""Lets a transaction act in the name of somebody for a while; gives nobody a right."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.store import event_log
from federation.store.context import ACTOR_SETTING, context


@contextmanager
def on_behalf_of(session: Session, actor: str, *, trace_id: str) -> Iterator[None]:
    """Do here, in the name and the trace of somebody, what he asked for himself and what was put off until now."""
    who = context(session)
    before = who.actor, who.trace_id
    _act_as(session, actor, trace_id)
    yield
    # What follows is the caller's again; after an error nothing does.
    _act_as(session, *before)


def _act_as(session: Session, actor: str, trace_id: str) -> None:
    session.flush()
    # Under the name in which they happened.
    event_log.write(session)
    who = context(session)
    who.actor, who.trace_id = actor, trace_id
    session.execute(text("SELECT set_config(:setting, :actor, true)"), {"setting": ACTOR_SETTING, "actor": actor})
