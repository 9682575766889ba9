"""Waiting for notifications in an asyncio program: one LISTEN connection for all coroutines; knows no table and keeps no message.

    async with Notifications(conninfo, channels=["celery_results"]) as notifications:
        with notifications.subscribe("celery_results", task_id) as subscription:
            while (row := await look(task_id)) is None and await subscription.wait(30):
                pass

Subscribe first, then look into the database, then wait: a notification between the look and the wait is kept.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from federation.results.errors import ListenerEnded
from federation.results.patience import completed

log = logging.getLogger(__name__)

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
                await asyncio.wait_for(self._woken.wait(), timeout)
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

    async def __aenter__(self) -> Self:
        """Connect and listen. Raises psycopg.OperationalError when the server cannot be reached now."""
        connection = await self._connect()
        self._task = asyncio.create_task(self._run(connection), name="notifications")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def subscribe(self, channel: str, key: str | None = None) -> Iterator[Subscription]:
        """Be woken by payloads equal to `key`, or by every payload of the channel.

        Raises ValueError for a channel that is not listened to, ListenerEnded outside of `async with`.
        """
        if channel not in self._channels:
            raise ValueError(f"channel {channel!r} is not listened to; name it in Notifications(channels=…), which has {list(self._channels)}")
        if self._task is None or self._task.done():
            raise ListenerEnded("nobody listens; subscribe inside `async with Notifications(…)`")
        subscription = Subscription()
        self._subscriptions.setdefault((channel, key), set()).add(subscription)
        try:
            yield subscription
        finally:
            subscribed = self._subscriptions[channel, key]
            subscribed.discard(subscription)
            if not subscribed:
                del self._subscriptions[channel, key]

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
