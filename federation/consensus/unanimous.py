"""Unanimous: all."""

from typing import ClassVar

from federation.consensus.counting import Count
from federation.consensus.share import Share


class Unanimous(Share):
    """All that is cast, or all that there is."""

    name: ClassVar[str] = "unanimous"
    about: ClassVar[str] = "all"

    def reaches(self, weight: int, whole: int, count: Count) -> bool:
        """Say whether it is all."""
        return weight >= whole
