"""Connections of one process, lent to its threads; a forked child starts with none of its parent's."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

# What a restart of the server, a cut line or a deadlock looks like; the same statement may succeed later.
CONNECTION_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)

# Never closed: closing one in a child would end the session of the parent.
_inherited: list[list[Connection]] = []


class Connections:
    """At most `size` autocommit connections, made when needed; no thread of its own."""

    def __init__(self, conninfo: str, size: int) -> None:
        self._conninfo, self._size = conninfo, size
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(size)
        weakref.finalize(self, _close, self._idle, os.getpid())

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
            connection = self._idle.pop() if self._idle else self.connect()
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
        _close(self._idle, os.getpid())

    def reset_after_fork(self) -> None:
        _inherited.append(self._idle)
        self._idle = []
        self._free = threading.BoundedSemaphore(self._size)
        weakref.finalize(self, _close, self._idle, os.getpid())


def _close(idle: list[Connection], owner: int) -> None:
    if os.getpid() != owner:
        return
    while idle:
        idle.pop().close()
