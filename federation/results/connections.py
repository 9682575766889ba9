"""Connections of one process, lent to its threads; a forked child starts with none of its parent's."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus, TransactionStatus

from federation.results.errors import NoTables, NotLetIn
from federation.results.patience import is_refusal

log = logging.getLogger(__name__)


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that knows which statements were prepared on it to be sent and not waited for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: dict[bytes, bytes] = {}


# What a restart of the server, a cut line or a deadlock looks like; the same statement may succeed later.
CONNECTION_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)
# What a database without the tables looks like, or a role that may not use them; they stay so.
_NO_TABLES = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege)
_MAKE_THEM = (
    "Make the tables with federation.results.tables.create_all(url) as a role that may, and let this one select, insert, update and delete in them; "
    "or set ?schema= in result_backend to where they are."
)
_SET_IT_RIGHT = "Set result_backend to the URL of a database and a role that are there, with its password, or make them."


class Connections:
    """At most `size` autocommit connections, made when needed; no thread of its own."""

    def __init__(self, conninfo: str, size: int) -> None:
        self._conninfo, self._size = conninfo, size
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(size)

    def __del__(self) -> None:
        self.close()

    def connect(self, name: str = "celery-results") -> Connection:
        """Return a new connection that belongs to the caller; `name` is what the server shows.

        Raises psycopg.OperationalError when the server does not answer, NotLetIn when it refuses what the URL says.
        """
        try:
            return Connection.connect(self._conninfo, autocommit=True, fallback_application_name=name)
        except psycopg.OperationalError as error:
            if is_refusal(error):
                raise NotLetIn(f"{str(error).strip()}\n{_SET_IT_RIGHT}") from error
            raise

    @contextmanager
    def borrow(self) -> Iterator[Connection]:
        """Lend a connection for one or more statements.

        Raises psycopg.OperationalError when the server does not answer; then all idle connections are dropped, because
        they are most likely dead too. Raises NotLetIn, NoTables.
        """
        with self._free, tables_wanted():
            connection = self._take_usable() or self.connect()
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

    def _take_usable(self) -> Connection | None:
        while connection := self._take():
            try:
                if _read_answers(connection):
                    return connection
            except CONNECTION_ERRORS as error:
                log.warning("results.connection_lost error=%s", str(error).strip())
            except BaseException:
                connection.close()
                raise
            connection.close()
        return None

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


@contextmanager
def tables_wanted() -> Iterator[None]:
    """Raise NoTables for what PostgreSQL says of tables that are not there or may not be used."""
    try:
        yield
    except _NO_TABLES as error:
        raise NoTables(f"{error.diag.message_primary or error}\n{_MAKE_THEM}") from error


def send(connection: Connection, statement: bytes, values: Sequence[bytes]) -> None:
    """Send a statement whose parameters are $1, $2 … and go on; whoever borrows the connection next reads its answer.

    For what need not be waited for. A failure is logged, a lost connection is left to the next borrower.
    """
    line = connection.pgconn
    try:
        line.send_query_prepared(_prepared(connection, statement), values)
        # What does not fit into the socket now goes out with the reading of the answer.
        line.flush()
    except psycopg.OperationalError as error:
        log.warning("results.unsent error=%s", str(error).strip())


def _prepared(connection: Connection, statement: bytes) -> bytes:
    """Return the name under which the server has parsed and planned this statement, once for each connection. Raises psycopg.OperationalError."""
    name = connection.prepared.get(statement)
    if name is None:
        name = b"sent_%d" % len(connection.prepared)
        result = connection.pgconn.prepare(name, statement)
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
        connection.prepared[statement] = name
    return name


def _read_answers(connection: Connection) -> bool:
    """Read what answers statements that were sent and not waited for; return whether the connection may be used.

    Raises psycopg.OperationalError when it is lost.
    """
    line = connection.pgconn
    if line.transaction_status == TransactionStatus.ACTIVE:
        for result in connection.wait(fetch_many(line)):
            if result.status == ExecStatus.FATAL_ERROR:
                log.warning("results.refused error=%s", result.error_message.decode(errors="replace").strip())
    return line.transaction_status == TransactionStatus.IDLE
