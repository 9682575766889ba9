"""Lets transactions that are about one thing go one after the other, where no row stands for it yet that they could lock."""

from collections.abc import Sequence

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

_SHARE = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(key, 0)) FROM unnest(CAST(:keys AS text[])) AS key")
_TAKE = select(func.pg_advisory_xact_lock(func.hashtextextended(text(":key"), 0)))


def take(session: Session, key: str) -> None:
    """Wait until no other transaction has the turn of this key, and have it until the commit; what follows sees what they did."""
    session.execute(_TAKE, {"key": key})


def share(session: Session, keys: Sequence[str]) -> None:
    """Wait until no other transaction has the turn of any of these keys, and until the commit let nobody have it, but others share them.

    The keys are taken in their order: let it be the same for all who share several.
    """
    if keys:
        session.execute(_SHARE, {"keys": list(keys)})
