"""Ballots added up, as a mechanism looks at them, and what a mechanism answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol

from federation.consensus.ballots import Base

Choice = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """The ballots that name an option, each with its weight; what is cast with them, what all voters have, and what is still out."""

    options: Choice
    ballots: Sequence[tuple[Choice, int]]
    votes: Mapping[str, int]
    cast: int
    electorate: int
    outstanding: int
    base: Base
    threshold: Fraction | None

    @property
    def all_in(self) -> int:
        """What would be cast if all who have not voted named an option."""
        return self.cast + self.outstanding

    def of(self, cast: int) -> int:
        """Return what a share is of, where so much is cast."""
        return self.electorate if self.base is Base.ELECTORATE else cast

    def place(self, option: str) -> int:
        """Return where an option stands in the list: of two that are equal the first wins."""
        return self.options.index(option)

    def first(self) -> str | None:
        """Return the option with the most votes; None where none has any."""
        best = max(self.options, key=lambda option: (self.votes[option], -self.place(option)))
        return best if self.votes[best] else None

    def beats(self, one: str, other: str, *, ahead: int) -> bool:
        """Say whether one stands before another when it gets so much more, or so much less."""
        lead = self.votes[one] + ahead - self.votes[other]
        return lead > 0 or (lead == 0 and self.place(one) < self.place(other))

    def leads(self, option: str, *, ahead: int) -> bool:
        """Say whether an option that has votes stands before all others when it gets so much more, or each of them does (less than 0)."""
        others = (other for other in self.options if other != option)
        return self.votes[option] + max(ahead, 0) > 0 and all(self.beats(option, other, ahead=ahead) for other in others)


class Mechanism(Protocol):
    """How a winner is found. A ballot names one option, or `several`, in an order that counts or not."""

    name: ClassVar[str]
    about: ClassVar[str]
    several: ClassVar[bool]
    ordered: ClassVar[bool]

    def winner(self, count: Count) -> str | None:
        """Return the option that wins with these ballots, None if none does."""
        ...

    def surely(self, count: Count, option: str) -> bool:
        """Say whether an option that wins now wins whatever the outstanding do; False where that is not known."""
        ...

    def possibly(self, count: Count, option: str) -> bool:
        """Say whether an option wins with some ballots of the outstanding; True where that is not known."""
        ...

    def rounds(self, count: Count) -> Sequence[Mapping[str, int]]:
        """Return the votes of each round, of a mechanism that has several."""
        ...
