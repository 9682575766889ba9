"""One load, given to a model server itself and through the front door and the queue: so many questions, so many of them at once."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread

from benchmarks.coordination.house import House
from benchmarks.coordination.seat import Line
from benchmarks.intervals import percentile
from federation.engines.contracts import Asked, ChatMessage
from federation.engines.openai import ModelServer

SYSTEM = "You are a careful assistant of an engineering team. Answer at length."
# What who waits is told before there is a part.
_WAITING = "the model is working"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one question: tokens, and seconds to the first part as who asked sees it and to the end."""

    tokens: int
    first_part_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a load: tokens a second of all answers together, and milliseconds to the first part."""

    tokens_per_s: float
    first_p50_ms: float
    first_p99_ms: float


Ask = Callable[[str], Awaitable[Answered]]
# Opens what one asker asks with.
Way = Callable[[], AbstractAsyncContextManager[Ask]]


def questions(count: int, turn: int) -> list[str]:
    """Return questions none of which begins as another does, in this turn or in others, so that no server has its beginning."""
    return [f"{turn * 1_000 + number}. Tell me about the number {number}, its divisors, and where it occurs." for number in range(count)]


async def load(way: Way, asked: Sequence[str], at_once: int) -> Found:
    """Ask all, `at_once` at a time: each asker asks its next question when it has the answer."""
    answers: list[Answered] = []
    left: Iterator[str] = iter(asked)
    ready = 0
    all_ready = anyio.Event()

    async def asker() -> None:
        nonlocal ready
        async with way() as ask:
            ready += 1
            if ready == at_once:
                all_ready.set()
            await all_ready.wait()
            answers.extend([await ask(question) for question in left])

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(asker)
        await all_ready.wait()
        began = time.perf_counter()
    # The last ones end alone, both ways.
    took = time.perf_counter() - began
    firsts = [answer.first_part_s * 1000 for answer in answers]
    return Found(sum(answer.tokens for answer in answers) / took, percentile(firsts, 50), percentile(firsts, 99))


def direct(server: ModelServer, max_tokens: int) -> Way:
    """Ask the server from a thread of this process, as a worker does, and nobody else."""

    def complete(question: str) -> Answered:
        asked = Asked([ChatMessage("system", SYSTEM), ChatMessage("user", question)], max_tokens=max_tokens)
        began, first = time.perf_counter(), 0.0

        def hear(part: str) -> None:
            nonlocal first
            first = first or time.perf_counter() - began

        completion = server.complete(asked, hear=hear)
        return Answered(completion.completion_tokens, first, time.perf_counter() - began)

    async def ask(question: str) -> Answered:
        return await anyio.to_thread.run_sync(complete, question)

    return opened(ask)


def opened(ask: Ask) -> Way:
    """Return a way on which nothing has to be opened first."""

    @asynccontextmanager
    async def nothing() -> AsyncIterator[Ask]:
        yield ask

    return nothing


def through_queue(house: House, agent: str, max_tokens: int) -> Way:
    """Call `federation_infer` as a bare client that asked for progress, and take its first news for the first part."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Ask]:
        async with Line(house.url) as line:
            # What connects, and finds the agent's token, is no part of a question.
            await line.call(house.tokens[agent], "federation_pulse", {})

            async def ask(question: str) -> Answered:
                began, first = time.perf_counter(), 0.0

                def hear(message: str) -> None:
                    nonlocal first
                    if message != _WAITING:
                        first = first or time.perf_counter() - began

                given = {"prompt": question, "system": SYSTEM, "max_tokens": max_tokens, "wait_s": 600}
                answer = await line.follow(house.tokens[agent], "federation_infer", given, hear)
                took = time.perf_counter() - began
                assert answer["text"] is not None, answer
                return Answered(answer["completion_tokens"], first or took, took)

            yield ask

    return connected
