"""One LISTEN connection for all waiters of a process; fetches what was announced, and looks by itself now and then."""

import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import psycopg
from psycopg import sql

from federation.results.connections import Connection, tables_wanted
from federation.results.errors import NotUsable
from federation.results.notices import wait_for_notices

log = logging.getLogger(__name__)

Row = TypeVar("Row")

IDLE_S = 60.0
_RETRY_MAX_S = 1.0


class Watch(Generic[Row]):
    """What one waiter waits for, and what has come for it."""

    def __init__(self, keys: Iterable[str], leave: Callable[["Watch[Row]", str], None]) -> None:
        self.keys = set(keys)
        self._leave = leave
        self._rows: deque[Row] = deque()
        self._arrived = threading.Event()
        self._refusal: NotUsable | None = None

    def put(self, row: Row) -> None:
        self._rows.append(row)
        self._arrived.set()

    def refuse(self, error: NotUsable) -> None:
        self._refusal = error
        self._arrived.set()

    def wait(self, timeout_s: float) -> list[Row]:
        """Return the rows that came since the last call, or nothing after `timeout_s` seconds. Raises NotUsable."""
        self._arrived.wait(timeout_s)
        # Cleared before the rows are taken: a row put in between is taken now and at worst wakes once more.
        self._arrived.clear()
        if self._refusal is not None:
            raise self._refusal
        return [self._rows.popleft() for _ in range(len(self._rows))]

    def discard(self, key: str) -> None:
        """Wait for this key no longer."""
        self._leave(self, key)


class Listener(Generic[Row]):
    """Wakes the watches of this process, from a thread that lives while somebody waits and `IDLE_S` longer.

    Rows come when they are announced, when the connection was made anew (each waiter may have missed something) and
    every `recheck_s` seconds, in one query for all. A dead server is waited for; one that lets nobody in, or lacks the tables, ends the waits.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        fetch: Callable[[Connection, list[str]], dict[str, Row]],
        *,
        channel: str,
        recheck_s: float,
        idle_s: float = IDLE_S,
    ) -> None:
        self._connect, self._fetch = connect, fetch
        self._channel, self._recheck_s, self._idle_s = channel, recheck_s, idle_s
        # Reentrant, because the garbage collector may end an abandoned `watch` in any thread at any line, also inside this lock.
        self._lock = threading.RLock()
        self._watches: dict[str, list[Watch[Row]]] = {}
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._used = 0.0
        # Why nothing is heard at present, in the server's words.
        self.trouble: str | None = None

    def reset_after_fork(self) -> None:
        self._lock = threading.RLock()
        self._watches = {}
        self._thread = None
        self._connection = None

    def stop(self) -> None:
        """End the thread now, unless somebody waits; the next waiter starts it again."""
        with self._lock:
            self._used = -math.inf
            if self._connection is not None and not self._watches:
                # Only the thread may use the connection; an end of file is what wakes it.
                with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        """See to it that there is a thread; returns at once, also when the server is away."""
        with self._lock:
            self._used = time.monotonic()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=f"listen-{self._channel}", daemon=True)
                self._thread.start()

    @contextmanager
    def watch(self, keys: Iterable[str]) -> Iterator[Watch[Row]]:
        """Wait for rows of these keys; the caller looks into the database once after this, for what came before."""
        watch = Watch(keys, self._leave)
        with self._lock:
            for key in watch.keys:
                self._watches.setdefault(key, []).append(watch)
        self.start()
        try:
            yield watch
        finally:
            for key in list(watch.keys):
                self._leave(watch, key)

    def _leave(self, watch: Watch[Row], key: str) -> None:
        watch.keys.discard(key)
        with self._lock:
            waiting = self._watches.get(key, [])
            if watch in waiting:
                waiting.remove(watch)
            if not waiting:
                self._watches.pop(key, None)

    def _run(self) -> None:
        delay_s = 0.05
        while not self._ended():
            try:
                with tables_wanted(), self._connect() as connection:
                    connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
                    delay_s, self.trouble = 0.05, None
                    with self._stoppable(connection):
                        self._listen(connection)
            except psycopg.Error as error:
                if self._ended():
                    return
                # Not raised: the thread is nobody's caller, and its waiters wait on until the server is back.
                self.trouble = str(error).strip()
                log.warning("results.listener_lost channel=%s retry_s=%.2f error=%s", self._channel, delay_s, self.trouble)
                time.sleep(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MAX_S)
            except NotUsable as error:
                self._refused(error)
                return

    def _refused(self, error: NotUsable) -> None:
        log.warning("results.listener_refused channel=%s error=%s", self._channel, error)
        # Under the lock, so that a waiter who comes now either is told here or starts the next thread.
        with self._lock:
            self._thread = None
            for watch in {id(watch): watch for waiting in self._watches.values() for watch in waiting}.values():
                watch.refuse(error)

    @contextmanager
    def _stoppable(self, connection: Connection) -> Iterator[None]:
        with self._lock:
            self._connection = connection
        try:
            yield
        finally:
            # Before the connection closes, so that `stop` never meets the number of another file.
            with self._lock:
                self._connection = None

    def _listen(self, connection: Connection) -> None:
        check_at = time.monotonic()
        while True:
            announced = set(wait_for_notices(connection, max(0.0, check_at - time.monotonic())))
            due = time.monotonic() >= check_at
            with self._lock:
                keys = list(self._watches) if due else [key for key in announced if key in self._watches]
            if keys:
                self._deliver(self._fetch(connection, keys))
            if due:
                if self._unused():
                    return
                check_at = time.monotonic() + self._recheck_s

    def _deliver(self, rows: dict[str, Row]) -> None:
        with self._lock:
            for key, row in rows.items():
                for watch in tuple(self._watches.get(key, ())):
                    watch.put(row)

    def _unused(self) -> bool:
        with self._lock:
            if self._watches:
                self._used = time.monotonic()
            return time.monotonic() - self._used > self._idle_s

    def _ended(self) -> bool:
        # Under the lock, so that a waiter who comes now either is seen here or starts the next thread.
        with self._lock:
            unused = not self._watches and time.monotonic() - self._used > self._idle_s
            if unused:
                self._thread = None
            return unused
