"""Decides whether memory stayed flat; reads none itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """Memory of each part after so many messages."""

    messages: int
    pss_mib: Mapping[str, float]
    rss_mib: Mapping[str, float]


@dataclass(frozen=True)
class Growth:
    """What a part grew after the warm-up, and the most that it may."""

    part: str
    grown_mib: float
    limit_mib: float

    @property
    def too_much(self) -> bool:
        """Whether it is no longer flat."""
        return self.grown_mib > self.limit_mib


def growths(samples: Sequence[Sample], limits_mib: Mapping[str, float], *, warm_up: float) -> list[Growth]:
    """Compare, for each part, the median PSS of the last third after the warm-up with that of the first third.

    `warm_up` is the share of all messages that does not count.
    Raises ValueError with fewer than three samples after it.
    """
    last = samples[-1].messages if samples else 0
    counted = [sample for sample in samples if sample.messages >= warm_up * last]
    third = len(counted) // 3
    if not third:
        raise ValueError(f"{len(counted)} samples after the warm-up tell nothing; three are needed")
    early, late = counted[:third], counted[-third:]
    return [
        Growth(part, median(sample.pss_mib[part] for sample in late) - median(sample.pss_mib[part] for sample in early), limit)
        for part, limit in limits_mib.items()
    ]
