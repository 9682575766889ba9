"""Computes at once what several threads ask for at the same time; knows not what it is."""

from collections.abc import Callable, Sequence
from threading import Condition
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class _Asked(Generic[A, R]):
    def __init__(self, what: A) -> None:
        self.what = what
        self.answers: list[R] = []
        self.error: BaseException | None = None

    def is_answered(self) -> bool:
        return bool(self.answers) or self.error is not None


class Together(Generic[A, R]):
    """Calls `compute` with what came while it was busy, in one thread at a time; it returns an answer for each, in their order."""

    def __init__(self, compute: Callable[[Sequence[A]], Sequence[R]]) -> None:
        self._compute = compute
        self._waiting: list[_Asked[A, R]] = []
        self._is_busy = False
        self._changed = Condition()

    def __call__(self, what: A) -> R:
        """Return the answer to this. Raises what the computation raises, as all do whose turn it was."""
        mine: _Asked[A, R] = _Asked(what)
        with self._changed:
            self._waiting.append(mine)
            # Who has his answer goes on with it at once, and not when those who come after him have theirs.
            self._changed.wait_for(lambda: mine.is_answered() or not self._is_busy)
            asked: list[_Asked[A, R]] = []
            if not mine.is_answered():
                self._is_busy, asked, self._waiting = True, self._waiting, asked
        if asked:
            self._answer(asked)
        if mine.error is not None:
            raise mine.error
        return mine.answers[0]

    def _answer(self, asked: Sequence[_Asked[A, R]]) -> None:
        try:
            for each, answer in zip(asked, self._compute([each.what for each in asked]), strict=True):
                each.answers.append(answer)
        except BaseException as error:  # noqa: BLE001 - each who asked raises it
            for each in asked:
                each.error = error
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
