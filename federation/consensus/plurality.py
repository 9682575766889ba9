"""The most votes win: what a poll and an approval have in common."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from federation.consensus.counting import Count


class Plurality:
    """The option that the most ballots name; of equal ones the one that was listed first."""

    ordered: ClassVar[bool] = False

    def winner(self, count: Count) -> str | None:
        """Return the option with the most votes."""
        return count.first()

    def surely(self, count: Count, option: str) -> bool:
        """Say whether it stays first when all the rest is for another."""
        return count.leads(option, ahead=-count.outstanding)

    def possibly(self, count: Count, option: str) -> bool:
        """Say whether it comes first when all the rest is for it."""
        return count.leads(option, ahead=count.outstanding)

    def rounds(self, count: Count) -> Sequence[Mapping[str, int]]:
        """There is one."""
        return ()
