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


def test_an_error_is_raised_to_who_asked_and_to_nobody_after() -> None:
    def inverse(numbers: Sequence[int]) -> list[float]:
        return [1 / number for number in numbers]

    invert = Together(inverse)
    with pytest.raises(ZeroDivisionError):
        invert(0)
    assert invert(2) == 0.5
