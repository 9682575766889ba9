"""What the program and its operators do for memories that they cannot read: embed again what has no vector, and remove what was left for others."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation.errors import NotFound, Refused
from federation.services import memories
from federation.store import event_log
from federation.store.behalf import on_behalf_of
from federation.store.context import context
from federation.store.models.cop import Visibility
from federation.store.models.memories import Memory

# So often it is embedded by itself; so long after the first try, the second and the third, so that what is repaired in an hour was waited for.
TRIES = 4
AGAIN_AFTER = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
# A message that nobody has had an end of for so long is taken to be lost with its broker or node.
LOST_AFTER = timedelta(hours=1)
# In one look: what waits for a node that was away must not keep it from answering.
AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What an operator may know of a memory: not what it says."""

    memory_id: uuid.UUID
    by: str
    visibility: Visibility
    audience: str
    created_at: datetime
    embedded: bool
    given_up: str | None


# Of each memory without a vector the executions that should have made it. One that ended, by its result or its cancellation, has not made it; one
# that was sent and has had no end for long may be lost; one that waits in the outbox is not.
_UNEMBEDDED = """
    SELECT m.id, m.created_by, coalesce(tried.number, 0) AS tries, last.id AS execution_id, last.trace_id,
        CASE WHEN last.cancelled_at IS NOT NULL THEN 'was cancelled' WHEN last.outcome IS NOT NULL THEN 'failed' ELSE 'has had no end' END AS became,
        gave_up.payload ->> 'reason' AS given_up
    FROM memories m
    LEFT JOIN LATERAL (
        SELECT count(*) AS number FROM executions e WHERE e.task_name = 'federation.tasks.memories.settle' AND e.kwargs ->> 'memory_id' = m.id::text
    ) tried ON true
    LEFT JOIN LATERAL (
        SELECT e.* FROM executions e WHERE e.task_name = 'federation.tasks.memories.settle' AND e.kwargs ->> 'memory_id' = m.id::text
        ORDER BY e.created_at DESC LIMIT 1
    ) last ON true
    LEFT JOIN LATERAL (
        SELECT payload FROM events WHERE stream = 'memory:' || m.id AND type = 'memory.given_up' ORDER BY position DESC LIMIT 1
    ) gave_up ON true
    WHERE m.vector_at IS NULL
"""
_DUE = text(
    f"""
    SELECT * FROM ({_UNEMBEDDED}
        AND m.created_at < clock_timestamp() - CAST(:soonest AS interval)
        AND (last.id IS NULL OR last.outcome IS NOT NULL OR last.cancelled_at IS NOT NULL
            OR last.sent_at < clock_timestamp() - CAST(:lost_after AS interval)
                AND NOT EXISTS (SELECT FROM outbox WHERE execution_id = last.id))
        AND coalesce(last.created_at < clock_timestamp() - (CAST(:again_after AS interval[]))[CAST(least(tried.number, :tries - 1) AS integer)], true)
        ORDER BY m.created_at
    ) due WHERE given_up IS NULL LIMIT :at_once
    """  # noqa: S608 - it is ours
)
_GIVEN_UP = text(f"SELECT * FROM ({_UNEMBEDDED}) left_out WHERE given_up IS NOT NULL")  # noqa: S608 - it is ours
_ALL = text(
    """
    SELECT m.id, m.created_by, e.number AS tries, e.trace_id FROM memories m
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, max(trace_id) AS trace_id FROM executions
        WHERE task_name = 'federation.tasks.memories.settle' AND kwargs ->> 'memory_id' = m.id::text
    ) e
    """
)


def embed_again(session: Session) -> tuple[int, int]:
    """Have some of those memories embedded again whose embedding ended without a vector; return how many, and of how many that was given up."""
    asked = {"soonest": AGAIN_AFTER[0], "lost_after": LOST_AFTER, "again_after": list(AGAIN_AFTER), "tries": TRIES, "at_once": AT_ONCE}
    again = given_up = 0
    for row in session.execute(_DUE, asked).all():
        if row.tries < TRIES:
            _ask_again(session, row)
            again += 1
            continue
        # Why it failed stands with the execution; an error's own words might be the memory's.
        reason = f"tried {row.tries} times; the last, execution {row.execution_id}, {row.became}"
        event_log.append(session, "memory.given_up", f"memory:{row.id}", payload={"memory_id": row.id, "reason": reason})
        given_up += 1
    return again, given_up


def request_embedding(session: Session, *, everything: bool = False) -> int:
    """Have memories embedded once more of which that was given up, or all, where the folder of vectors is gone; return how many."""
    rows = session.execute(_ALL if everything else _GIVEN_UP).all()
    for row in rows:
        _ask_again(session, row)
    return len(rows)


def _ask_again(session: Session, row: Any) -> None:
    # In its author's name, because the execution reads it, which the program's own parts may not.
    with on_behalf_of(session, row.created_by, trace_id=row.trace_id or context(session).trace_id):
        memories.request_settling(session, row.id, f"again {row.tries}")


def listed(session: Session, *, before: datetime | None = None, limit: int = 50) -> Sequence[Kept]:
    """Return what an operator may know of the latest memories, or of those next before a moment."""
    query = select(Memory.id, Memory.created_by, Memory.visibility, Memory.audience, Memory.created_at, Memory.vector_at)
    query = query.order_by(Memory.created_at.desc(), Memory.id).limit(limit)
    rows = session.execute(query if before is None else query.where(Memory.created_at < before)).all()
    reasons = {row.id: row.given_up for row in session.execute(_GIVEN_UP)}
    return [
        Kept(row.id, row.created_by, Visibility(row.visibility), row.audience, row.created_at, row.vector_at is not None, reasons.get(row.id))
        for row in rows
    ]


def remove(session: Session, memory_id: uuid.UUID) -> None:
    """Remove, as an operator, what somebody remembered for others, and its vector.

    Raises NotFound, Refused for what somebody remembered for itself alone.
    """
    found = session.execute(select(Memory.created_by, Memory.visibility).where(Memory.id == memory_id)).one_or_none()
    if found is None:
        raise NotFound("memory", str(memory_id))
    owner, visibility = found
    if visibility == Visibility.NOBODY:
        remedy = f"{owner} forgets it by federation_forget; where nobody has its token any more: federation agent rotate {owner}"
        raise Refused(f"What {owner} remembers for itself alone nobody else takes away.", remedy)
    if session.scalar(delete_from(Memory).where(Memory.id == memory_id).returning(Memory.id)) is None:
        raise NotFound("memory", str(memory_id))
    event_log.append(session, "memory.forgotten", f"memory:{memory_id}", payload={"memory_id": memory_id})
    with on_behalf_of(session, owner, trace_id=context(session).trace_id):
        memories.request_settling(session, memory_id, "forgotten")
