"""What several threads ask for at the same time is computed at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from federation.together import Together


def test_what_comes_while_it_is_busy_is_computed_at_once_and_answered_each_with_its_own() -> None:
    began, go, computed = Event(), Event(), []

    def squares(numbers: Sequence[int]) -> list[int]:
        computed.append(len(numbers))
        began.set()
        assert go.wait(60)
        return [number**2 for number in numbers]

    square = Together(squares)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(square, number) for number in range(10)]
        try:
            assert began.wait(60)
            while len(square._waiting) < 10 - computed[0]:
                assert not any(one.done() for one in asked)
        finally:
            go.set()
        assert [one.result() for one in asked] == [number**2 for number in range(10)]
    assert (len(computed), sum(computed)) == (2, 10)


def test_of_many_who_wait_only_so_many_are_computed_at_once() -> None:
    began, go, computed = Event(), Event(), []

    def squares(numbers: Sequence[int]) -> list[int]:
        computed.append(len(numbers))
        began.set()
        assert go.wait(60)
        return [number**2 for number in numbers]

    square = Together(squares, most=4)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(square, number) for number in range(10)]
        try:
            assert began.wait(60)
            while len(square._waiting) < 10 - computed[0]:
                assert not any(one.done() for one in asked)
        finally:
            go.set()
        assert [one.result() for one in asked] == [number**2 for number in range(10)]
    assert max(computed) == 4
    assert sum(computed) == 10


def test_an_error_is_raised_to_who_asked_and_to_nobody_beside_or_after() -> None:
    began, go = Event(), Event()

    def inverses(numbers: Sequence[int]) -> list[float]:
        began.set()
        assert go.wait(60)
        return [1 / number for number in numbers]

    invert = Together(inverses)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(invert, number) for number in (4, 1, 0, 2)]
        try:
            assert began.wait(60)
            while len(invert._waiting) < 3:
                assert not any(one.done() for one in asked)
        finally:
            go.set()
        assert [asked[place].result() for place in (0, 1, 3)] == [0.25, 1.0, 0.5]
        with pytest.raises(ZeroDivisionError):
            asked[2].result()
    assert invert(2) == 0.5
