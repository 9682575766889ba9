"""What is voted on, by whom, and what was voted, as values; a weight is a whole number of thousandths, so that no sum depends on its order."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Who answers so is for nothing, and takes part.
ABSTAIN = "abstain"
# The weight of one vote.
WHOLE = 1_000


class Base(StrEnum):
    """What a share is a share of."""

    CAST = "cast"
    ELECTORATE = "electorate"


class Reason(StrEnum):
    """Why nothing was decided."""

    NO_QUORUM = "no_quorum"
    NOT_REACHED = "not_reached"


class BadBallot(ValueError):
    """A ballot says what this mechanism cannot count; the text says what it wants."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one voter chose: nothing is an abstention; of several the order counts where the mechanism ranks."""

    voter: str
    choice: tuple[str, ...]
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How ballots are counted; `weights` has the whole electorate, in thousandths; so many voters as `quorum` says must take part."""

    mechanism: str
    options: tuple[str, ...]
    weights: Mapping[str, int]
    quorum: int = 0
    base: Base = Base.CAST
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ballots come to; weights in thousandths.

    `fixed`: nothing that who has not voted may still do changes the winner. `void` are voters with two ballots that contradict each other.
    """

    winner: str | None
    reason: Reason | None
    votes: Mapping[str, int]
    tied: tuple[str, ...]
    took_part: int
    abstained: int
    outstanding: int
    void: tuple[str, ...]
    rounds: tuple[Mapping[str, int], ...]
    confidence: float | None
    fixed: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as it is recorded and told: votes as numbers of which 1 is a vote."""
        return {
            "winner": self.winner,
            "reason": None if self.reason is None else str(self.reason),
            "votes": numbers(self.votes),
            "tied": list(self.tied),
            "took_part": self.took_part,
            "abstained": self.abstained,
            "void": list(self.void),
            "rounds": [numbers(places) for places in self.rounds],
            "confidence": self.confidence,
        }


def numbers(thousandths: Mapping[str, int]) -> dict[str, int | float]:
    """Return weights as numbers of which 1 is a vote: whole ones where they are whole."""
    return {option: weight // WHOLE if weight % WHOLE == 0 else weight / WHOLE for option, weight in thousandths.items()}
