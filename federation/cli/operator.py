"""Transactions of the person at the command line, under the name of their account."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from federation.delivery.runtime import transactions
from federation.errors import Conflict, FederationError
from federation.local.elsewhere import check_database
from federation.local.person import person
from federation.settings import settings
from federation.store import event_log

T = TypeVar("T")


def check() -> None:
    """Pass if PostgreSQL takes us. Raises SettingsError or DatabaseUnavailable, which say what to do."""
    for role in ("database_url", "database_service_url"):
        check_database(settings(), role)


def transact(work: Callable[[Session], T]) -> T:
    """Do this in one transaction. Raises SettingsError or DatabaseUnavailable where PostgreSQL does not take us, and what the work raises."""
    check()
    with transactions().begin(person()) as session:
        return work(session)


# Nobody who holds what an event needs has a revocation wait for longer.
_WAITS = text("SET LOCAL lock_timeout = '5s'")


def record(work: Callable[[Session], None], done: str) -> None:
    """Record what is done already, in these words. Raises Conflict, which names it, where that cannot be written, and as `transact`."""
    check()
    try:
        with transactions().begin(person()) as session:
            session.execute(_WAITS)
            work(session)
    except (DBAPIError, FederationError) as error:
        raise _untold(done, error) from error


def take_away(work: Callable[[Session], T], done: Callable[[T], str]) -> T:
    """Do what takes something away, and record it; where its events cannot be written it is taken away all the same.

    Raises Conflict then, which says in these words what is done, and as `transact`.
    """
    check()
    taken: list[T] = []
    try:
        with transactions().begin(person()) as session:
            session.execute(_WAITS)
            taken.append(work(session))
    except (DBAPIError, FederationError) as error:
        if not taken:
            raise
        with transactions().begin(person()) as session:
            result = work(session)
            event_log.withhold(session)
        raise _untold(done(result), error) from error
    return taken[0]


def _untold(done: str, error: Exception) -> Conflict:
    told = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return Conflict(f"{done}, and stays so; but the event log does not tell of it, because that could not be written: {told}")
