"""Computes at once what several threads ask for at the same time; knows not what it is."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class _Asked(Generic[A, R]):
    def __init__(self, what: A) -> None:
        self.what = what
        self.answers: list[R] = []
        self.error: Exception | None = None


class Together(Generic[A, R]):
    """Calls `compute` with what came while it was busy, in one thread at a time; it returns an answer for each, in their order."""

    def __init__(self, compute: Callable[[Sequence[A]], Sequence[R]]) -> None:
        self._compute = compute
        self._waiting: deque[_Asked[A, R]] = deque()
        self._turn = Lock()

    def __call__(self, what: A) -> R:
        """Return the answer to this. Raises what the computation raises, as all do whose turn it was."""
        mine: _Asked[A, R] = _Asked(what)
        self._waiting.append(mine)
        with self._turn:
            if not mine.answers and mine.error is None:
                self._answer()
        if mine.error is not None:
            raise mine.error
        return mine.answers[0]

    def _answer(self) -> None:
        # What comes behind these is for the next turn.
        asked = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            answers = self._compute([each.what for each in asked])
        except Exception as error:  # noqa: BLE001 - each who asked raises it
            for each in asked:
                each.error = error
            return
        for each, answer in zip(asked, answers, strict=True):
            each.answers.append(answer)
