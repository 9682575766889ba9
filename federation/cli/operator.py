"""Transactions of the person at the command line, under the name of their account."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from federation.cli.console import errors, inert
from federation.delivery.runtime import transactions
from federation.errors import Conflict, FederationError, TransientError
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
# After so long what a node's login has open, and this waits for, is ended.
_END_AFTER_S = 1.0
_END_IN_THE_WAY = text("SELECT node, ended FROM federation_end_in_the_way(:pid)")


class _InTheWay:
    """The nodes with a login whose sessions held up what takes something away."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.unended: set[str] = set()

    @contextmanager
    def ends(self, session: Session) -> Iterator[None]:
        """End while the block waits what nodes' logins have open and it waits for."""
        connection: Any = session.connection().connection.driver_connection
        done = threading.Event()
        thread = threading.Thread(target=self._look, args=(connection.info.backend_pid, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _look(self, pid: int, done: threading.Event) -> None:
        while not done.wait(_END_AFTER_S):
            try:
                with transactions().single() as session:
                    for node, is_ended in session.execute(_END_IN_THE_WAY, {"pid": pid}):
                        (self.ended if is_ended else self.unended).add(node)
            except TransientError:
                # What waits meets the same, and tells it.
                return

    def tell(self) -> None:
        """Say whose sessions were ended."""
        for node in sorted(self.ended):
            errors.print(inert(f"The login of node {node} held this up, and what it had open was ended. Shut it out: federation node remove {node}"))

    def conflict(self) -> Conflict | None:
        """Return what names who still holds it up, None where nobody is known to."""
        names = sorted(self.ended | self.unended)
        if not names:
            return None
        removing = "; ".join(f"federation node remove {node}" for node in names)
        return Conflict(f"the login of node {', '.join(names)} holds what this needs; shut it out, and call again: {removing}")


def record(work: Callable[[Session], None], done: str) -> None:
    """Record what is done already, in these words. Raises Conflict, which names it, where that cannot be written, and as `transact`."""
    check()
    try:
        _unhindered(work)
    except (DBAPIError, FederationError) as error:
        raise _untold(done, error) from error


def take_away(work: Callable[[Session], T], done: Callable[[T], str]) -> T:
    """Do what takes something away, and record it; where its events cannot be written it is taken away all the same.

    What a node's login has open, and is in the way, is ended. Raises Conflict where an event is not written, which says in these words what is done,
    and where a node's login holds it up all the same; and as `transact`.
    """
    check()
    taken: list[T] = []
    try:
        _unhindered(work, taken)
    except (DBAPIError, FederationError) as error:
        if not taken:
            raise
        with transactions().begin(person()) as session:
            result = work(session)
            event_log.withhold(session)
        raise _untold(done(result), error) from error
    return taken[0]


def _unhindered(work: Callable[[Session], T], taken: list[T] | None = None) -> None:
    in_the_way = _InTheWay()
    try:
        with transactions().begin(person()) as session, in_the_way.ends(session):
            session.execute(_WAITS)
            result = work(session)
            if taken is not None:
                taken.append(result)
            # Here, where who is in the way is ended.
            session.flush()
            event_log.write(session)
    except TransientError as error:
        raise in_the_way.conflict() or error from error
    finally:
        in_the_way.tell()


def _untold(done: str, error: Exception) -> Conflict:
    told = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return Conflict(f"{done}, and stays so; but the event log does not tell of it, because that could not be written: {told}")
