"""What the samples of all rounds say: the median of each measure, and ours against each peer; prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.intervals import Ratio, paired_ratio
from benchmarks.rounds import Sample


@dataclass(frozen=True)
class Measure:
    """A field of a sample, and in which direction it is good."""

    field: str
    title: str
    more_is_better: bool


MEASURES = (
    Measure("processed_per_s", "no-op processed /s", True),
    Measure("published_per_s", "published /s", True),
    Measure("p50_ms", ".delay().get() p50 ms", False),
    Measure("p99_ms", ".delay().get() p99 ms", False),
)


@dataclass(frozen=True)
class Line:
    """One measure with one pool at one peer; `ratio` is ours divided by the peer's, None for ourselves."""

    pool: str
    measure: str
    peer: str
    median: float
    ratio: Ratio | None


def summarize(samples: Sequence[Sample], ours: str) -> list[Line]:
    """Return a line for each pool, measure and peer, in the order of the samples."""
    lines = []
    for pool in dict.fromkeys(sample.pool for sample in samples):
        peers = sorted({sample.peer for sample in samples if sample.pool == pool}, key=lambda name: (name != ours, name))
        for measure in MEASURES:
            values = {peer: _values(samples, pool, peer, measure.field) for peer in peers}
            for peer in peers:
                ratio = paired_ratio(values[ours], values[peer]) if ours in values and peer != ours else None
                lines.append(Line(pool, measure.field, peer, median(values[peer]), ratio))
    return lines


def _values(samples: Sequence[Sample], pool: str, peer: str, field: str) -> list[float]:
    chosen = sorted((sample for sample in samples if (sample.pool, sample.peer) == (pool, peer)), key=lambda sample: sample.round)
    return [float(getattr(sample, field)) for sample in chosen]
