"""What bench-inference asks, and how it judges what it found."""

import anyio
import pytest

from benchmarks.inference import __main__ as inference
from benchmarks.inference import load
from benchmarks.readings import Reading


def readings(direct: list[tuple[float, float]], queue: list[tuple[float, float]]) -> list[Reading]:
    """Return rounds of (tokens a second, milliseconds to the first part)."""
    return [
        Reading("8 questions at once", measure, way, number, value)
        for way, rounds in (("direct", direct), ("queue", queue))
        for number, pair in enumerate(rounds, 1)
        for measure, value in zip(("tokens_per_s", "first_p50_ms"), pair, strict=True)
    ]


def test_each_round_is_compared_with_itself() -> None:
    share, later = inference.judged(readings([(100, 50), (10, 500), (100, 50)], [(95, 70), (9.5, 520), (95, 70)]))
    assert (share.held, share.found) == (True, "0.95 (0.95 – 0.95)")
    assert (later.held, later.found) == (True, "+20 ms")


def test_slower_and_later_than_the_goal_is_not_held() -> None:
    assert [goal.held for goal in inference.judged(readings([(100, 50)], [(89, 81)]))] == [False, False]


def test_no_question_begins_as_another_does() -> None:
    asked = [*load.questions(48, 1), *load.questions(48, 2)]
    assert len({question.partition(".")[0] for question in asked}) == len(asked)


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_are_asked_at_once_and_each_of_them_once(at_once: int) -> None:
    now, most = 0, 0
    asked: list[str] = []

    async def ask(question: str) -> load.Answered:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(0)
        now -= 1
        asked.append(question)
        return load.Answered(tokens=2, first_part_s=0.5, seconds=1)

    found = anyio.run(load.load, load.opened(ask), load.questions(9, 1), at_once)
    assert (most, sorted(asked)) == (at_once, sorted(load.questions(9, 1)))
    assert (found.first_p50_ms, found.first_p99_ms) == (500, 500)
