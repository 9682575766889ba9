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

    def __init__(self, compute: Callable[[Sequence[A]], Sequence[R]], *, most: int | None = None) -> None:
        self._compute, self._most = compute, most
        self._waiting: list[_Asked[A, R]] = []
        self._is_busy = False
        self._changed = Condition()

    def __call__(self, what: A) -> R:
        """Return the answer to this; of more than `most` who wait, the first come first. Raises what the computation raises for this alone."""
        mine: _Asked[A, R] = _Asked(what)
        with self._changed:
            self._waiting.append(mine)
        while not mine.is_answered():
            with self._changed:
                # Who has his answer goes on with it at once, and not when those who came after him have theirs.
                self._changed.wait_for(lambda: mine.is_answered() or not self._is_busy)
                if mine.is_answered():
                    break
                self._is_busy, asked = True, self._waiting[: self._most]
                del self._waiting[: self._most]
            self._answer(asked)
        if mine.error is not None:
            raise mine.error
        return mine.answers[0]

    def _answer(self, asked: Sequence[_Asked[A, R]]) -> None:
        try:
            self._fill(asked)
        finally:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def _fill(self, asked: Sequence[_Asked[A, R]]) -> None:
        try:
            answers = self._compute([each.what for each in asked])
        except BaseException as error:  # noqa: BLE001 - who asked raises it
            if len(asked) == 1:
                asked[0].error = error
                return
            # Whose it is shows when each is computed alone.
            for each in asked:
                self._fill([each])
            return
        for each, answer in zip(asked, answers, strict=True):
            each.answers.append(answer)
