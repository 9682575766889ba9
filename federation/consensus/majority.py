"""Majority: more than half."""

from typing import ClassVar

from federation.consensus.counting import Count
from federation.consensus.share import Share


class Majority(Share):
    """More than half; of the electorate that is n/2 + 1."""

    name: ClassVar[str] = "majority"
    about: ClassVar[str] = "more than half"

    def reaches(self, weight: int, whole: int, count: Count) -> bool:
        """Say whether it is more than half."""
        return 2 * weight > whole
