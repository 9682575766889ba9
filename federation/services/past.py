"""Keeps what agents said and nodes did, for those who ask later what everybody was doing then; whoever keeps tells of it by an event."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from federation.store.context import context, notify
from federation.store.models.cop import THIS_TRANSACTION, Action, CopState, PastState, SubjectKind, Visibility

# Wakes those who watch what everybody is doing.
PULSE = "pulse"
# In the data of a node's state: from then on it was not there, or it was there again.
GONE = "gone"


def keep(session: Session, kind: SubjectKind, subject: str, values: Mapping[str, Any], *, at: datetime | None = None) -> None:
    """Keep a state as of a moment, None: now."""
    row = {"visibility": Visibility.ALL, **values, "updated_by": context(session).actor}
    session.add(PastState(kind=kind, subject=subject, at=at or func.clock_timestamp(), **row))


def keep_presence(session: Session, node: str, summary: str, *, gone: bool, at: datetime | None = None) -> None:
    """Keep that a node came or went, as of a moment, None: now; for those who watch it has changed."""
    mine = (CopState.kind == SubjectKind.NODE, CopState.subject == node)
    session.execute(update(CopState).where(*mine).values(changed_in=THIS_TRANSACTION, updated_by=context(session).actor))
    notify(session, [PULSE])
    keep(session, SubjectKind.NODE, node, {"summary": summary, "action": Action.IDLE, "data": {GONE: gone}}, at=at)
