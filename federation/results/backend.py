"""A Celery result backend on PostgreSQL without polling: results, groups and chords; JSON only, no DDL, no role but its own.

`result_backend = "pgnotify+postgresql://user:password@host:5432/database"`. A result is one upsert, committed before it is
announced by NOTIFY, because a NOTIFY inside the transaction makes all writers queue for one lock while the log is flushed.
"""

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, states
from celery._state import get_current_worker_task, task_join_will_block  # type: ignore[attr-defined]
from celery.exceptions import ImproperlyConfigured
from celery.result import GroupResult, result_from_tuple

from federation.results import chords, rows
from federation.results.connections import CONNECTION_ERRORS, Connection, Connections, send
from federation.results.errors import IdRefused, NotUsable, WrongUrl
from federation.results.joining import Meta
from federation.results.listener import Listener
from federation.results.options import parse
from federation.results.retrying import RetryingBackend
from federation.results.rows import Row
from federation.results.statements import CLEANUP_BATCH, statements
from federation.results.tables import LONGEST_ID


class PostgresBackend(RetryingBackend):
    """One instance serves all threads of a process, and starts anew in a forked child.

    When the server is away, writers and readers try again with back-off (`result_backend_always_retry`, on by default, up to
    `result_backend_max_retries`), and waiters wait until their time-out. So does who sends the body of a chord while the broker is away.
    A server that lets nobody in with the URL (NotLetIn) or has no tables (NoTables) raises at once, but in a worker, whose work would be lost.
    """

    supports_autoexpire = False
    supports_failure_expires = True

    app: Celery
    serializer: str
    url: str
    expires: float | None
    _get_result_meta: Callable[..., Meta]

    def __init__(self, app: Celery, url: str | None = None, **kwargs: Any) -> None:
        if not url:
            raise ImproperlyConfigured("the result backend wants a URL: pgnotify+postgresql://user:password@host:5432/database")
        # Not what the application accepts as messages: this backend writes and reads nothing but JSON.
        super().__init__(app, url=url, **({"accept": ["json"]} | kwargs))
        if self.serializer != "json":
            raise ImproperlyConfigured(f"result_serializer: got {self.serializer!r}; this backend stores json only")
        conf = app.conf
        # Celery then keeps one instance for all threads, and with it one listener.
        self.thread_safe = True
        if not conf.value_set_for("result_backend_always_retry"):
            self.always_retry = True
        if not conf.value_set_for("result_backend_max_sleep_between_retries_ms"):
            self.max_sleep_between_retries_ms = 1_000
        self._failure_expires = self._seconds(conf.result_failure_expires)
        self._chord_expires = self._seconds(conf.result_chord_expires)
        try:
            self.options = parse(url)
        except WrongUrl as error:
            # Celery's own error for this, so that its commands show it without a traceback.
            raise ImproperlyConfigured(str(error)) from error
        self.recheck_s = self.options.recheck_s
        self._sql = statements(self.options.schema)
        self._connections = Connections(self.options.conninfo, self.options.connections)
        self.listener = Listener(
            partial(self._connections.connect, "celery-results-listener"), self._fetch, channel=self.options.channel, recheck_s=self.recheck_s
        )
        self._counted = threading.local()
        _alive.add(self)

    def reset_after_fork(self) -> None:
        """Leave the parent's connections and listener to the parent."""
        self._connections.reset_after_fork()
        self.listener.reset_after_fork()

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.listener.stop()
        self._connections.close()

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        # Celery acknowledges the message of a task whose result could not be stored: a worker keeps it, and says why, until it is set right.
        return isinstance(exc, CONNECTION_ERRORS) or (isinstance(exc, NotUsable) and _works())

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:  # type: ignore[override]  # the stub says None
        if len(task_id) > LONGEST_ID or "\0" in task_id:
            raise IdRefused(f"task_id: got {task_id[:40]!r}… of {len(task_id)} characters, wants at most {LONGEST_ID}, without NUL")
        # LISTEN before the publish, so that the first `get` of a process does not pay for the connection. Workers seldom wait.
        if not task_join_will_block():
            self.listener.start()
        return {}

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any) -> None:
        values = self._values(task_id, result, state, traceback, request)
        with self._connections.borrow() as connection:
            if state in states.READY_STATES and _is_part(request):
                self._counted.last = (task_id, self._count(connection, values))
            else:
                connection.execute(self._sql.store if state in states.READY_STATES else self._sql.tell, values)
            self._announce(connection, task_id)

    def _announce(self, connection: Connection, task_id: str) -> None:
        # Not waited for: whoever waits for the result hears of it as soon, and the writer has half a journey less.
        send(connection, self._sql.notify, (self.options.channel.encode(), task_id.encode()))

    def _values(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> dict[str, Any]:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        values = rows.parameters(task_id, meta, self.encode, getattr(request, "group_index", None))  # type: ignore[arg-type]  # json encodes to text
        expires_s = self._failure_expires if state == states.FAILURE else self.expires
        return values | {"ready": state in states.READY_STATES, "expires_s": expires_s or None, "chord_expires_s": self._chord_expires or None}

    def _count(self, connection: Connection, values: dict[str, Any]) -> int:
        """Count a part; return how many parts there are when this one completes the header, else 0."""
        row = connection.execute(self._sql.count, values).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    def _get_task_meta_for(self, task_id: str) -> Meta:
        row = self._rows([task_id]).get(task_id)
        return {"status": states.PENDING, "result": None} if row is None else self._meta(row)

    def _rows(self, task_ids: list[str]) -> dict[str, Row]:
        with self._connections.borrow() as connection:
            return self._fetch(connection, task_ids)

    def _fetch(self, connection: Connection, task_ids: list[str]) -> dict[str, Row]:
        return {row[0]: Row(*row) for row in connection.execute(self._sql.read, (task_ids,))}

    def task_result_exists(self, task_id: str) -> bool:
        return bool(self._ensure_retryable(self._rows, [task_id]))

    def _forget(self, task_id: str) -> None:
        self._run(self._sql.forget, (task_id,))

    def _save_group(self, group_id: str, result: GroupResult) -> GroupResult:
        values = {"group_id": group_id, "value": self.encode(result.as_tuple()), "expires_s": self._chord_expires or None}
        self._run(self._sql.save_group, values)
        return result

    def _restore_group(self, group_id: str) -> Meta | None:
        with self._connections.borrow() as connection:
            row = connection.execute(self._sql.restore_group, (group_id,)).fetchone()
        return None if row is None else {"result": result_from_tuple(self.decode(row[0]), self.app)}

    def _delete_group(self, group_id: str) -> None:
        self._run(self._sql.delete_group, (group_id,))

    def apply_chord(self, header_result_args: tuple[Any, Any], body: Any, **kwargs: Any) -> None:
        # A header given as a generator is not walked before it is sent; then the parts alone tell its value.
        if isinstance(header_result_args[1], list | tuple):
            header = GroupResult(*header_result_args, app=self.app)
            if chords.is_nested(header):
                self.save_group(header_result_args[0], header)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        self._chord(self._sql.set_chord_size, group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        self._chord(self._sql.add_to_chord, chord_id, 1)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a part that its result did not count already (`ignore_result`), and send the body after the last one."""
        if not _is_part(request):
            return
        counted = getattr(self._counted, "last", None)
        self._counted.last = None
        if counted is not None and counted[0] == request.id:
            parts = counted[1]
        else:
            values = self._values(request.id, self.encode_result(result, state), state, None, request)
            parts = self._ensure_retryable(self._count_alone, values)
        if parts:
            chords.send_body(self, request, parts)
            self._ensure_retryable(self._run, self._sql.finish_chord, (request.group,))

    def header(self, group_id: str) -> tuple[GroupResult | None, int, list[Any] | None]:
        """Return a chord's header where it is nested, how many parts it has by now, and their values in its order unless one has failed."""
        nested, parts, values = self._ensure_retryable(self._header, group_id)
        header: Any = None if nested is None else result_from_tuple(self.decode(nested), self.app)
        return header, parts, None if values is None else self.decode(values)

    def parts(self, group_id: str) -> list[Row]:
        """Return the stored parts of a chord's header, in its order."""
        return self._ensure_retryable(self._parts, group_id)  # type: ignore[no-any-return]

    def cleanup(self) -> None:
        """Delete what has expired, in batches so that no lock is held for long; `celery.backend_cleanup` calls it."""
        for statement in self._sql.cleanup:
            while self._ensure_retryable(self._run, statement) >= CLEANUP_BATCH:
                pass

    def _header(self, group_id: str) -> Any:
        with self._connections.borrow() as connection:
            return connection.execute(self._sql.header, {"group_id": group_id}).fetchone()

    def _parts(self, group_id: str) -> list[Row]:
        with self._connections.borrow() as connection:
            return [Row(*row) for row in connection.execute(self._sql.parts, (group_id,))]

    def _count_alone(self, values: dict[str, Any]) -> int:
        with self._connections.borrow() as connection:
            return self._count(connection, values)

    def _chord(self, statement: bytes, group_id: str, value: int) -> None:
        values = {"group_id": group_id, "value": value, "expires_s": self._chord_expires or None}
        self._ensure_retryable(self._run, statement, values)

    def _run(self, statement: bytes, values: Any = None) -> int:
        with self._connections.borrow() as connection:
            return connection.execute(statement, values).rowcount

    def _seconds(self, value: Any) -> float | None:
        # None means «like any other result»; 0 means «for ever», as in Celery.
        return self.expires if value is None else self.prepare_expires(value)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {"url": self.url, "expires": self.expires} | (kwargs or {}))  # type: ignore[call-arg]


def _works() -> bool:
    """Return whether this is a worker's process, or a green thread of one."""
    return task_join_will_block() or get_current_worker_task() is not None


def _is_part(request: Any) -> bool:
    return bool(request is not None and request.chord and request.group and request.id)


_alive: "weakref.WeakSet[PostgresBackend]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for backend in list(_alive):
        backend.reset_after_fork()


os.register_at_fork(after_in_child=_reset_after_fork)
