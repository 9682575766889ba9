"""A share of the votes wins: what majority, supermajority, unanimity and a threshold have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

from federation.consensus.counting import Count
from federation.consensus.plurality import Plurality


class Share(Plurality, ABC):
    """The option with the most votes, if they are share enough; whoever has enough of more has enough of less."""

    several: ClassVar[bool] = False

    @abstractmethod
    def reaches(self, weight: int, whole: int, count: Count) -> bool:
        """Say whether this is share enough of the whole."""

    def winner(self, count: Count) -> str | None:
        """Return the option with the most votes, if they are enough."""
        best = super().winner(count)
        return best if best is not None and self.reaches(count.votes[best], count.of(count.cast), count) else None

    def surely(self, count: Count, option: str) -> bool:
        """Say whether it has enough and stays first when all the rest is for another."""
        return super().surely(count, option) and self.reaches(count.votes[option], count.of(count.all_in), count)

    def possibly(self, count: Count, option: str) -> bool:
        """Say whether it has enough when all the rest is for it."""
        return super().possibly(count, option) and self.reaches(count.votes[option] + count.outstanding, count.of(count.all_in), count)
