"""Supermajority: two thirds or more."""

from typing import ClassVar

from federation.consensus.counting import Count
from federation.consensus.share import Share


class Supermajority(Share):
    """Two thirds or more."""

    name: ClassVar[str] = "supermajority"
    about: ClassVar[str] = "two thirds or more"

    def reaches(self, weight: int, whole: int, count: Count) -> bool:
        """Say whether it is two thirds."""
        return 3 * weight >= 2 * whole
