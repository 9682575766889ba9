"""Waiting for notifications in an asyncio program: one LISTEN connection for all coroutines, and one to notify; knows no table, keeps no message.

    async with Notifications(conninfo, channels=["celery_results"]) as notifications:
        with notifications.subscribe("celery_results", task_id) as subscription:
            while (row := await look(task_id)) is None and await subscription.wait(30):
                pass

Subscribe first, then look into the database, then wait: a notification between the look and the wait is kept.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from federation.results.errors import ListenerEnded
from federation.results.patience import completed

log = logging.getLogger(__name__)

# One parameter for all, however many are told at once.
_NOTIFY = "select pg_notify(channel, key) from unnest(%s::text[], %s::text[]) as told (channel, key)"
_LAST_WORDS_S = 1.0
_RETRY_S = 0.05
_RETRY_MAX_S = 1.0

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Subscription:
    """One coroutine's interest in a key of a channel."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._error: BaseException | None = None

    async def wait(self, timeout: float | None = None) -> bool:  # the time-out is an answer here, not an error
        """Return True when there may be news since the last call, so that you look again; False after `timeout` seconds.

        True also follows each reconnection, because what happened meanwhile is unknown. Raises ListenerEnded.
        """
        if not self._woken.is_set():
            try:
                # Not wait_for, which makes a task of it and so wakes later.
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return False
        if self._error is not None:
            raise ListenerEnded("the listener has ended; open Notifications again") from self._error
        self._woken.clear()
        return True

    def wake(self) -> None:
        self._woken.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._woken.set()


class Notifications:
    """Hears the payloads of some channels and wakes who subscribed to them; reconnects by itself, with back-off."""

    def __init__(self, conninfo: str, *, channels: Sequence[str]) -> None:
        self._conninfo, self._channels = conninfo, tuple(channels)
        self._subscriptions: dict[tuple[str, str | None], set[Subscription]] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # What other processes were not told yet, and who tells them.
        self._untold: dict[tuple[str, str], None] = {}
        self._telling: asyncio.Task[None] | None = None
        self._teller: Connection | None = None
        self._teller_pid: int | None = None

    async def __aenter__(self) -> Self:
        """Connect and listen. Raises psycopg.OperationalError when the server cannot be reached now."""
        connection = await self._connect()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(connection), name="notifications")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._loop = None
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=_LAST_WORDS_S)
            self._telling.cancel()
        if self._teller is not None:
            await self._teller.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def subscribe(self, channel: str, key: str | None = None) -> Iterator[Subscription]:
        """Be woken by payloads equal to `key`, or by every payload of the channel.

        Raises ValueError for a channel that is not listened to, ListenerEnded outside of `async with`.
        """
        with self.subscribe_to([(channel, key)]) as subscription:
            yield subscription

    @contextmanager
    def subscribe_to(self, wanted: Sequence[tuple[str, str | None]]) -> Iterator[Subscription]:
        """Be woken by any of these channels' keys. Raises as `subscribe`."""
        for channel, _ in wanted:
            if channel not in self._channels:
                raise ValueError(f"channel {channel!r} is not listened to; name it in Notifications(channels=…), which has {list(self._channels)}")
        if self._task is None or self._task.done():
            raise ListenerEnded("nobody listens; subscribe inside `async with Notifications(…)`")
        subscription = Subscription()
        for each in wanted:
            self._subscriptions.setdefault(each, set()).add(subscription)
        try:
            yield subscription
        finally:
            for each in wanted:
                subscribed = self._subscriptions.get(each, set())
                subscribed.discard(subscription)
                if not subscribed:
                    self._subscriptions.pop(each, None)

    def tell(self, channel: str, keys: Iterable[str]) -> bool:
        """Wake who subscribed to these in this process, and have PostgreSQL tell all others; returns at once, to any thread.

        False outside of `async with`, where nobody is told. What a lost connection may have swallowed is told again.
        """
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._tell, channel, list(keys))
        except RuntimeError:
            # The loop was closed a moment ago.
            return False
        return True

    def _tell(self, channel: str, keys: list[str]) -> None:
        for key in keys:
            self._wake(channel, key)
            self._untold[channel, key] = None
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell_others())

    async def _tell_others(self) -> None:
        """Tell what there is; what comes meanwhile goes together in the next statement."""
        retry_s = _RETRY_S
        while self._untold:
            told, self._untold = list(self._untold), {}
            try:
                if self._teller is None or self._teller.closed:
                    self._teller = await psycopg.AsyncConnection.connect(**completed(self._conninfo), autocommit=True)
                    self._teller_pid = self._teller.info.backend_pid
                await self._teller.execute(_NOTIFY, tuple(map(list, zip(*told, strict=True))))
                retry_s = _RETRY_S
            except psycopg.OperationalError as error:
                self._teller_pid = None
                self._untold = {**dict.fromkeys(told), **self._untold}
                log.warning("notifications.deferred count=%d retry_s=%g error=%s", len(told), retry_s, str(error).strip())
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(**completed(self._conninfo), autocommit=True)
        try:
            for channel in self._channels:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _run(self, connection: Connection) -> None:
        while True:
            try:
                await self._hear(connection)
            except psycopg.OperationalError as error:
                log.warning("notifications.lost error=%s", str(error).strip())
            finally:
                await connection.close()
            connection = await self._reconnect()
            for subscribed in self._subscriptions.values():
                for subscription in subscribed:
                    subscription.wake()

    async def _hear(self, connection: Connection) -> None:
        """Wake who waits for what comes, until the connection is lost. Raises psycopg.OperationalError."""
        # Not psycopg's own way, which makes a future and two timers for each and wakes ten times a second for none.
        loop, line, number = asyncio.get_running_loop(), connection.pgconn, connection.pgconn.socket
        lost: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                line.consume_input()
                while (note := line.notifies()) is not None:
                    # Who is here has heard already what this process has told.
                    if note.be_pid != self._teller_pid:
                        self._wake(note.relname.decode(), note.extra.decode())
            except psycopg.OperationalError as error:
                # At once, because libpq has closed it, and the next file that is opened has its number.
                loop.remove_reader(number)
                if not lost.done():
                    lost.set_exception(error)

        loop.add_reader(number, read)
        try:
            # What came while it began to listen was read by then, and nothing would say so.
            read()
            await lost
        finally:
            if not lost.done() or lost.cancelled():
                loop.remove_reader(number)

    def _wake(self, channel: str, payload: str) -> None:
        for key in (payload, None):
            for subscription in self._subscriptions.get((channel, key), ()):
                subscription.wake()

    async def _reconnect(self) -> Connection:
        delay_s = _RETRY_S
        while True:
            try:
                return await self._connect()
            except psycopg.OperationalError as error:
                log.warning("notifications.reconnect_failed retry_s=%.2f error=%s", delay_s, str(error).strip())
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for subscribed in self._subscriptions.values():
            for subscription in subscribed:
                subscription.fail(error or asyncio.CancelledError())
