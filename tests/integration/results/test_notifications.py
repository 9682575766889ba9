"""Coroutines that wait for notifications on one connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from federation.results.errors import ListenerEnded
from federation.results.waiting import Notifications

SOON_S = 90


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(body(), 60)

    asyncio.run(limited())


async def notify(database: Any, channel: str, payload: str) -> None:
    await asyncio.to_thread(database.execute, "select pg_notify(%s, %s)", channel, payload)


def test_only_who_subscribed_to_the_key_is_woken(database: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results", "Inbox"]) as notifications:
            with (
                notifications.subscribe("results", "a") as mine,
                notifications.subscribe("results", "a") as also,
                notifications.subscribe("results", "b") as other,
                notifications.subscribe("Inbox", "a") as elsewhere,
                notifications.subscribe("results") as everything,
            ):
                await notify(database, "results", "a")
                assert await mine.wait(SOON_S)
                assert await also.wait(SOON_S)
                assert await everything.wait(SOON_S)
                assert not await mine.wait(0.01)
                assert not await other.wait(0)
                await notify(database, "Inbox", "a")
                assert await elsewhere.wait(SOON_S)
            assert not notifications._subscriptions

    run(body)


def test_a_notification_before_the_wait_is_kept(database: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as notifications:
            with notifications.subscribe("results", "a") as first, notifications.subscribe("results", "b") as second:
                await notify(database, "results", "a")
                await notify(database, "results", "b")
                assert await second.wait(SOON_S)
                assert await first.wait(0)

    run(body)


def test_all_are_woken_after_a_reconnection(database: Any, postgres: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as notifications:
            with notifications.subscribe("results", "a") as subscription:
                # Not in a thread: the server is bound to the life of the thread that starts it.
                postgres.kill()
                postgres.start()
                assert await subscription.wait(SOON_S)
                await notify(database, "results", "a")
                assert await subscription.wait(SOON_S)

    run(body)


def test_many_coroutines_hold_one_connection_and_no_thread(database: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as notifications:

            async def one(number: int) -> bool:
                with notifications.subscribe("results", str(number)) as subscription:
                    return await subscription.wait(SOON_S)

            waiting = [asyncio.create_task(one(number)) for number in range(500)]
            await asyncio.sleep(0)
            rows = await asyncio.to_thread(
                database.execute, "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
            )
            assert rows == [(1,)]
            await asyncio.to_thread(database.execute, "select pg_notify('results', n::text) from generate_series(0, 499) n")
            assert all(await asyncio.gather(*waiting))

    run(body)


def test_what_one_process_tells_wakes_its_own_at_once_and_the_others_once(database: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as here, Notifications(database.url, channels=["results"]) as there:
            with here.subscribe("results", "a") as mine, there.subscribe("results", "a") as theirs, there.subscribe("results", "z") as last:
                assert await asyncio.to_thread(here.tell, "results", ["a"])
                # Before PostgreSQL knows of it.
                await asyncio.sleep(0)
                assert await mine.wait(0)
                assert await theirs.wait(SOON_S)
                # What comes on the connection behind it: by now one's own word has come back, and has woken nobody again.
                await notify(database, "results", "z")
                assert await last.wait(SOON_S)
                with here.subscribe("results", "y") as behind:
                    await notify(database, "results", "y")
                    assert await behind.wait(SOON_S)
                assert not await mine.wait(0)

    run(body)


def test_what_is_told_while_the_server_is_away_wakes_those_who_are_here(database: Any, postgres: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as notifications:
            with notifications.subscribe("results", "a") as subscription:
                postgres.kill()
                assert notifications.tell("results", ["a"])
                assert await subscription.wait(SOON_S)
                postgres.start()
                # The listener is back.
                assert await subscription.wait(SOON_S)
                with notifications.subscribe("results", "b") as other:
                    assert notifications.tell("results", ["b"])
                    assert await other.wait(SOON_S)
        assert not notifications.tell("results", ["a"])

    run(body)


def test_what_was_told_over_a_connection_that_had_ended_is_told_again(database: Any) -> None:
    async def body() -> None:
        async with Notifications(database.url, channels=["results"]) as here, Notifications(database.url, channels=["results"]) as elsewhere:
            with elsewhere.subscribe("results", "a") as first, elsewhere.subscribe("results", "b") as second:
                assert here.tell("results", ["a"])
                assert await first.wait(SOON_S)
                await asyncio.to_thread(database.execute, "select pg_terminate_backend(%s, 60000)", here._teller_pid)
                assert here.tell("results", ["b"])
                assert await second.wait(SOON_S)

    run(body)


def test_a_closed_listener_tells_its_waiters(database: Any) -> None:
    async def body() -> None:
        notifications = Notifications(database.url, channels=["results"])
        with pytest.raises(ListenerEnded):
            notifications.subscribe("results", "a").__enter__()
        async with notifications:
            with pytest.raises(ValueError, match="results"):
                notifications.subscribe("Results", "a").__enter__()
            subscription = notifications.subscribe("results", "a")
            waiting = asyncio.create_task(subscription.__enter__().wait())
        with pytest.raises(ListenerEnded):
            await waiting
        subscription.__exit__(None, None, None)

    run(body)


def test_an_unreachable_server_stops_the_start() -> None:
    async def body() -> None:
        with pytest.raises(psycopg.OperationalError):
            async with Notifications("host=127.0.0.1 port=1 dbname=x", channels=["results"]):
                pass

    run(body)
