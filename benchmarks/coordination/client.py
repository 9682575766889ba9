"""Measures one door with so many agents at once, in a process of its own: a JSON object in, one line of JSON out; starts no server."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.coordination.doors import Door, Federation, Floor, News
from benchmarks.coordination.seat import Line
from benchmarks.coordination.stomp_line import StompLine
from benchmarks.intervals import percentile

# Until a call that waits has come to wait, so that what is measured is news and not the call.
_SETTLED_S = 0.05
_SEEN_WITHIN_S = 90.0
_WARM_UP = 1

Once = Callable[[int], Awaitable[Sequence[float]]]


def callers(agents: int) -> list[str]:
    """Return who calls."""
    return [f"a{number}" for number in range(agents)]


def partner(name: str) -> str:
    """Return who waits for what a caller does."""
    return f"b{name[1:]}"


async def _each(agents: int, times: int, once: Once) -> list[list[float]]:
    """Let all agents call at once, each one time after the other; return what each call took, a list for each figure of `once`."""
    found: list[Sequence[float]] = []

    async def go(agent: int) -> None:
        for number in range(_WARM_UP + times):
            took = await once(agent)
            if number >= _WARM_UP:
                found.append(took)

    await asyncio.gather(*(go(agent) for agent in range(agents)))
    return [list(figure) for figure in zip(*found, strict=True)]


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000


async def sends(door: Door, names: Sequence[str], times: int) -> list[list[float]]:
    """From a send to the answer of an inbox that waits."""
    cursors = [await door.end_of_inbox(partner(name)) for name in names]

    async def once(agent: int) -> Sequence[float]:
        who, to, content = names[agent], partner(names[agent]), uuid.uuid4().hex

        async def wait() -> tuple[News, float]:
            return await door.inbox(to, cursors[agent]), time.perf_counter()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(_SETTLED_S)
        began = time.perf_counter()
        (news, at), _ = await asyncio.gather(waiting, door.send(who, to, content))
        if list(news.contents) != [content]:
            raise AssertionError(f"{to} waited for {content} and got {news.contents}")
        cursors[agent] = news.cursor
        return [1000 * (at - began)]

    return await _each(len(names), times, once)


async def updates(door: Door, names: Sequence[str], times: int, broker_url: str) -> list[list[float]]:
    """From the update of a state to another's pulse that waits, and to who follows the topic."""
    loop = asyncio.get_running_loop()
    shown: dict[str, asyncio.Future[float]] = {}
    told: dict[str, asyncio.Future[float]] = {}

    def heard(frame: Any) -> None:
        now = time.perf_counter()
        summary = door.summary(frame.body)
        loop.call_soon_threadsafe(lambda: _settle(told, summary, now))

    async def watch() -> None:
        cursor = None
        while True:
            table, cursor = await door.pulse("watcher", cursor)
            now = time.perf_counter()
            for summary in [each for each in shown if f"| {each} |" in table]:
                _settle(shown, summary, now)

    line = StompLine(broker_url, heard)
    line.subscribe(door.topic)
    watching = asyncio.create_task(watch())

    async def once(agent: int) -> Sequence[float]:
        summary = uuid.uuid4().hex
        shown[summary], told[summary] = loop.create_future(), loop.create_future()
        seen = asyncio.gather(shown[summary], told[summary])
        await asyncio.sleep(_SETTLED_S)
        began = time.perf_counter()
        await door.update_state(names[agent], summary)
        # Whoever watches in vain says why.
        waited: list[asyncio.Future[Any]] = [seen, watching]
        await asyncio.wait(waited, timeout=_SEEN_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        if not seen.done():
            raise TimeoutError(f"a new state was not seen within {_SEEN_WITHIN_S:g} s: {'pulse' if summary in shown else 'topic'}")
        return [1000 * (at - began) for at in await seen]

    try:
        return await _each(len(names), times, once)
    finally:
        watching.cancel()
        line.close()


def _settle(awaited: dict[str, asyncio.Future[float]], summary: str | None, now: float) -> None:
    if summary is not None and (future := awaited.pop(summary, None)):
        future.set_result(now)


async def claims(door: Door, names: Sequence[str], times: int) -> list[list[float]]:
    """From the call to its answer: each claims something else."""

    async def once(agent: int) -> Sequence[float]:
        began = time.perf_counter()
        won = await door.claim(names[agent], uuid.uuid4().hex)
        took = _ms(began)
        if not won:
            raise AssertionError(f"{names[agent]} did not get what nobody else wants")
        return [took]

    return await _each(len(names), times, once)


async def votes(door: Door, names: Sequence[str], times: int) -> list[list[float]]:
    """From the call to its answer: all vote in the same votes."""
    prepared = [await door.prepare_vote(names) for _ in range(_WARM_UP + times)]
    left = [list(prepared) for _ in names]

    async def once(agent: int) -> Sequence[float]:
        vote = left[agent].pop(0)
        began = time.perf_counter()
        await door.vote(names[agent], vote)
        return [_ms(began)]

    return await _each(len(names), times, once)


async def delegations(door: Door, names: Sequence[str], times: int) -> list[list[float]]:
    """From handing out work to the answer that another, who waited for work, has claimed it."""
    cursors = [await door.end_of_inbox(partner(name)) for name in names]

    async def once(agent: int) -> Sequence[float]:
        who, to = names[agent], partner(names[agent])

        async def take() -> float:
            news = await door.inbox(to, cursors[agent])
            [task] = news.tasks
            if task is None or not await door.claim_task(to, task):
                raise AssertionError(f"{to} did not get the task that is for it alone: {news}")
            cursors[agent] = news.cursor
            return time.perf_counter()

        taking = asyncio.create_task(take())
        await asyncio.sleep(_SETTLED_S)
        began = time.perf_counter()
        at, _ = await asyncio.gather(taking, door.delegate(who, to, "Profile the memory of the auth module."))
        return [1000 * (at - began)]

    return await _each(len(names), times, once)


async def measure(door: Door, *, agents: int, times: int, broker_url: str) -> dict[str, list[float]]:
    """Return what each call took, in milliseconds, by the names of `names.OPERATIONS`."""
    names = callers(agents)
    [sent] = await sends(door, names, times)
    shown, told = await updates(door, names, times, broker_url)
    [claimed] = await claims(door, names, times)
    [voted] = await votes(door, names, times)
    [taken] = await delegations(door, names, times)
    return {"send": sent, "pulse": shown, "topic": told, "claim": claimed, "vote": voted, "delegate": taken}


async def _main(given: dict[str, Any]) -> dict[str, float]:
    async with Line(given["url"]) as line:
        door: Door = Federation(line, given["tokens"], given["database_url"]) if given["tokens"] else Floor(line)
        found = await measure(door, agents=given["agents"], times=given["times"], broker_url=given["broker_url"])
    return {f"{name}_p{percent}_ms": percentile(took, percent) for name, took in found.items() for percent in (50, 99)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(json.load(sys.stdin)))))
