"""Seals what has its number and is not sealed yet; the signing key and the file outside of the database are the caller's."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from federation.errors import PermanentError
from federation.security import seals
from federation.security.signing import SigningKey
from federation.store.models.events import OrderedEvent
from federation.store.models.events import Seal as SealRow

# Of so many events a change is found in; their hashes are one row, and one line of the file.
MOST_EVENTS = 4096


class OrderBroken(PermanentError):
    """The order of events has a hole where the next seal would begin; its text says where."""


def seal_next(session: Session, key: SigningKey, *, most: int) -> seals.Seal | None:
    """Seal the next events, at most so many; None if all are sealed. Raises OrderBroken."""
    former = last(session)
    first = 1 if former is None else former.last + 1
    query = select(OrderedEvent.number, OrderedEvent.leaf).where(OrderedEvent.number >= first).order_by(OrderedEvent.number).limit(most)
    rows = session.execute(query).all()
    if not rows:
        return None
    if [row.number for row in rows] != list(range(first, first + len(rows))):
        raise OrderBroken(f"event_order has a hole after number {first - 1}; look at it with `federation audit verify`")
    made = seals.make([row.leaf for row in rows], former, key, at=session.scalars(select(func.clock_timestamp())).one())
    session.add(SealRow(number=made.number, first=made.first, last=made.last, statement=made.statement, signature=made.signature, leaves=made.leaves))
    session.flush()
    return made


def last(session: Session) -> seals.Seal | None:
    """Return the latest seal."""
    row = session.scalars(select(SealRow).order_by(SealRow.number.desc()).limit(1)).one_or_none()
    return None if row is None else _value(row)


def after(session: Session, number: int, *, limit: int = 100) -> list[seals.Seal]:
    """Return the seals that follow this one, in order, at most so many."""
    return [_value(row) for row in session.scalars(select(SealRow).where(SealRow.number > number).order_by(SealRow.number).limit(limit))]


def _value(row: SealRow) -> seals.Seal:
    return seals.Seal(row.number, row.first, row.last, row.statement, row.signature, row.leaves)
