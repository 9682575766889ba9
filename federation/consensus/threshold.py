"""Threshold: the share that the rules say, or more."""

from typing import ClassVar

from federation.consensus.counting import Count
from federation.consensus.share import Share


class Threshold(Share):
    """So much or more as was asked for; below a half several options may have it, and the most votes win."""

    name: ClassVar[str] = "threshold"
    about: ClassVar[str] = "the share `threshold` or more"

    def reaches(self, weight: int, whole: int, count: Count) -> bool:
        """Say whether it is the share that was asked for."""
        return count.threshold is not None and weight >= count.threshold * whole
