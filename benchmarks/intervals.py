"""Medians, percentiles and how sure they are; measures nothing.

The interval is the percentile bootstrap: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_RESAMPLES = 5000
_SEED = 20261  # the same rounds give the same interval, whoever computes it


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of single rounds, and its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval lies on one side of parity."""
        return self.low > 1 or self.high < 1


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def paired_ratio(ours: Sequence[float], peers: Sequence[float]) -> Ratio:
    """Return ours divided by the peer's, round by round, so that what disturbed a whole round counts for both.

    Raises ValueError when the rounds do not pair.
    """
    ratios = [mine / theirs for mine, theirs in zip(ours, peers, strict=True)]
    chance = random.Random(_SEED)
    medians = [median(chance.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES)]
    return Ratio(median(ratios), percentile(medians, 2.5), percentile(medians, 97.5))
