"""Lets transactions that are about one thing go one after the other, where no row stands for it yet that they could lock."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

_TAKE = select(func.pg_advisory_xact_lock(func.hashtextextended(text(":key"), 0)))

_SHARE = select(func.pg_advisory_xact_lock_shared(func.hashtextextended(text(":key"), 0)))


def take(session: Session, key: str) -> None:
    """Wait until no other transaction has the turn of this key, and have it until the commit; what follows sees what they did."""
    session.execute(_TAKE, {"key": key})


def share(session: Session, key: str) -> None:
    """Have the turn of this key until the commit together with all others who share it: who takes it alone waits for them, and they for him."""
    session.execute(_SHARE, {"key": key})
