"""The line of those who wait for a claim: in order of arrival among all that overlap; who is not present is passed by and keeps the place."""

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from federation.services.resources import Resource
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.claims import Waiter

# Who waits looks this often, and is passed by when it has not looked for so long.
LOOK_S, PRESENT_S = 10.0, 30.0
# Who was away for longer stands at the end when it comes back.
KEPT = timedelta(hours=1)

_JOIN = text(
    """
    INSERT INTO claim_waiters (resource, holder, present_until)
    VALUES (:resource, :holder, clock_timestamp() + make_interval(secs => :present_s))
    ON CONFLICT (resource, holder) DO UPDATE SET present_until = excluded.present_until, updated_by = excluded.holder
    RETURNING place, old.place IS NULL AS joined, extract(epoch FROM clock_timestamp() - since)::float8 AS waited_s
    """
)
# Those whose turn it may be now that something overlapping is free: nobody present is before them.
_NEXT = text(
    """
    SELECT DISTINCT w.holder FROM claim_waiters w
    WHERE (w.resource = ANY(CAST(:names AS text[])) OR w.resource ~>=~ :first AND w.resource ~<~ :beyond) AND w.present_until > clock_timestamp()
        AND NOT EXISTS (
            SELECT FROM claim_waiters earlier
            WHERE earlier.place < w.place AND earlier.holder <> w.holder AND earlier.present_until > clock_timestamp()
                AND federation_overlap(earlier.resource, w.resource)
        )
    """
)
_WAITING = text(
    """
    SELECT claimed.resource, array_agg(w.holder ORDER BY w.place) AS names
    FROM unnest(CAST(:claimed AS text[])) AS claimed (resource)
    JOIN claim_waiters w ON w.present_until > clock_timestamp() AND federation_overlap(w.resource, claimed.resource)
    GROUP BY claimed.resource
    """
)


def overlapping(resource: Resource) -> dict[str, Any]:
    """Return what statements ask with for names that overlap: some by name, the others by what they begin with."""
    first = resource.below
    # In the order of bytes, what begins so ends before the next of its last character.
    beyond = None if first is None else first[:-1] + chr(ord(first[-1]) + 1)
    return {"resource": resource.name, "names": resource.overlapped_by, "first": first, "beyond": beyond}


def key(holder: str) -> str:
    """Return the notice that wakes somebody who waits."""
    return f"line:{holder}"


def join(session: Session, resource: Resource, *, present_s: float, ahead: int) -> tuple[int, float]:
    """Wait in line, or go on waiting; return the place, counted from 1, and for how many seconds one has waited. The caller has the turn."""
    holder = context(session).actor
    row = session.execute(_JOIN, {"resource": resource.name, "holder": holder, "present_s": present_s}).one()
    if row.joined:
        payload = {"resource": resource.name, "holder": holder, "place": row.place}
        event_log.append(session, "claim.waiting", f"claim:{resource.name}", payload=payload)
    return ahead + 1, row.waited_s


def leave(session: Session, resource: Resource) -> bool:
    """Wait no more; False if the caller did not."""
    gone = delete(Waiter).where(Waiter.resource == resource.name, Waiter.holder == context(session).actor).returning(Waiter.place)
    place = session.scalar(gone)
    if place is None:
        return False
    _tell_left(session, resource.name, context(session).actor, place)
    wake_next(session, resource)
    return True


def forget_absent(session: Session) -> int:
    """Take those out of the line who have not come back; return how many."""
    gone = text("DELETE FROM claim_waiters WHERE present_until < clock_timestamp() - CAST(:kept AS interval) RETURNING resource, holder, place")
    rows = session.execute(gone, {"kept": KEPT}).all()
    for row in rows:
        _tell_left(session, row.resource, row.holder, row.place)
    return len(rows)


def _tell_left(session: Session, resource: str, holder: str, place: int) -> None:
    payload = {"resource": resource, "holder": holder, "place": place}
    event_log.append(session, "claim.wait_ended", f"claim:{resource}", payload=payload)


def wake_next(session: Session, resource: Resource) -> None:
    """Wake those in line whose turn it may be after something of this resource became free."""
    notify(session, map(key, session.scalars(_NEXT, overlapping(resource))))


def waiting(session: Session, names: list[str]) -> dict[str, list[str]]:
    """Return who waits for something that overlaps each of these, in the order of the line."""
    return {row.resource: row.names for row in session.execute(_WAITING, {"claimed": names})}
