"""Lets transactions that are about one thing go one after the other, where no row stands for it yet that they could lock."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, text
from sqlalchemy.orm import Session

# Row by row, and so in the order of the keys.
_SHARE = "pg_advisory_xact_lock_shared(hashtextextended(key, 0)) FROM unnest(CAST(:keys AS text[])) AS key"
_SHARE_ALL = text(f"SELECT {_SHARE}")
_TAKE = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
_TAKE_BELOW = text(
    f"""
    WITH silence AS MATERIALIZED (
        SELECT set_config('idle_in_transaction_session_timeout', :silence, true), set_config('plan_cache_mode', 'force_generic_plan', true)
    ),
    shared AS MATERIALIZED (SELECT {_SHARE})
    SELECT pg_advisory_xact_lock(hashtextextended(:key, 0)) FROM silence, (SELECT count(*) FROM shared) AS all_of_them
    """  # noqa: S608 - it is ours
)


def take(session: Session, key: str, *, sharing: Sequence[str] = (), silent_s: float | None = None) -> None:
    """Wait until no other transaction has the turn of this key, and have it until the commit; what follows sees what they did.

    Before it the turns of other keys are shared, as `share` does. With `silent_s` PostgreSQL ends the session of who then is silent for so long, and
    plans what follows once for all values: it is found by keys, and to plan the claim anew each time took three times as long as to run it.
    """
    if silent_s is None:
        share(session, sharing)
        session.execute(_TAKE, {"key": key})
    else:
        session.execute(_TAKE_BELOW, {"key": key, "keys": list(sharing), "silence": f"{silent_s:g}s"})


def share(session: Session, keys: Sequence[str]) -> None:
    """Wait until no other transaction has the turn of any of these keys, and until the commit let nobody have it, but others share them.

    The keys are taken in their order: let it be the same for all who share several.
    """
    if keys:
        session.execute(_SHARE_ALL, {"keys": list(keys)})


def shared(key: ColumnElement[str]) -> ColumnElement[None]:
    """Return what shares the turn of this key for each row that is selected, as `share` does; what else is selected is of before that."""
    return func.pg_advisory_xact_lock_shared(func.hashtextextended(key, 0))


def taken(key: ColumnElement[str]) -> ColumnElement[None]:
    """Return what has the turn of this key for each row that is selected, as `take` does; what else is selected is of before that."""
    return func.pg_advisory_xact_lock(func.hashtextextended(key, 0))
