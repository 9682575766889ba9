"""Connections of one process, lent to its threads; a forked child starts with none of its parent's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

# What a restart of the server, a cut line or a deadlock looks like; the same statement may succeed later.
CONNECTION_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)


class Connections:
    """At most `size` autocommit connections, made when needed; no thread of its own."""

    def __init__(self, conninfo: str, size: int) -> None:
        self._conninfo, self._size = conninfo, size
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(size)

    def __del__(self) -> None:
        self.close()

    def connect(self, name: str = "celery-results") -> Connection:
        """Return a new connection that belongs to the caller; `name` is what the server shows."""
        return psycopg.connect(self._conninfo, autocommit=True, fallback_application_name=name)

    @contextmanager
    def borrow(self) -> Iterator[Connection]:
        """Lend a connection for one or more statements.

        Raises psycopg.OperationalError when the server does not answer; then all idle connections are dropped, because
        they are most likely dead too.
        """
        with self._free:
            connection = self._take() or self.connect()
            try:
                yield connection
            except CONNECTION_ERRORS:
                connection.close()
                self.close()
                raise
            finally:
                if not connection.closed:
                    self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle; the next borrower connects anew."""
        while connection := self._take():
            connection.close()

    def _take(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # not asked before, because another thread may take the last one in between
            return None

    def reset_after_fork(self) -> None:
        # The parent's are dropped and not closed: closing one would end the parent's session. psycopg, too, closes
        # what is collected only in the process that opened it.
        self._idle = []
        self._free = threading.BoundedSemaphore(self._size)
