"""What the result backend is to reach beside its peers, and whether it does; measures nothing."""

from collections.abc import Sequence

from benchmarks.backends.names import ALONE, DATABASE, IN_MEMORY, OURS, POOL, RABBITMQ
from benchmarks.goals import Goal, told, values
from benchmarks.intervals import paired_ratio
from benchmarks.readings import Reading

OF_THE_SUM = 1.2
UNDER_POLLING = 50
STORED = 2.0
ANNOUNCED = 0.8


def judged(readings: Sequence[Reading]) -> list[Goal]:
    """Return each goal that the readings can tell of, with what was found."""

    def of(table: str, measure: str, peer: str) -> list[float]:
        return values(readings, table, measure, peer)

    goals = []
    p50 = of(POOL.title, "p50_ms", OURS)
    parts = of(POOL.title, "p50_ms", RABBITMQ), of(ALONE, "commit_ms", OURS), of(ALONE, "send_ms", OURS)
    if p50 and all(parts):
        ratio = paired_ratio(p50, [sum(row) for row in zip(*parts, strict=True)])
        goals.append(Goal(f"p50 ≤ {OF_THE_SUM:g} × ({RABBITMQ} + commit + send)", POOL.title, told(ratio), ratio.median <= OF_THE_SUM))
    mine, polled = of(POOL.title, "known_after_ms", OURS), of(POOL.title, "known_after_ms", DATABASE)
    if mine and polled:
        ratio = paired_ratio(polled, mine)
        goals.append(Goal(f"known ≥ {UNDER_POLLING} × sooner than by {DATABASE}", POOL.title, told(ratio), ratio.median >= UNDER_POLLING))
    for measure in ("stored_1_per_s", "stored_8_per_s"):
        mine, theirs = of(ALONE, measure, OURS), of(ALONE, measure, DATABASE)
        if mine and theirs:
            ratio = paired_ratio(mine, theirs)
            goals.append(Goal(f"stored ≥ {STORED:g} × {DATABASE}", measure, told(ratio), ratio.median >= STORED))
    mine, theirs = of(POOL.title, "hand_over_ms", OURS), of(POOL.title, "hand_over_ms", IN_MEMORY)
    if mine and theirs:
        ratio = paired_ratio(mine, theirs)
        goals.append(Goal(f"chord handed over no slower than {IN_MEMORY}", POOL.title, told(ratio), ratio.median <= 1))
    mine, theirs = of(ALONE, "announced_8_per_s", OURS), of(ALONE, "silent_8_per_s", OURS)
    if mine and theirs:
        ratio = paired_ratio(mine, theirs)
        goals.append(Goal(f"eight writers ≥ {ANNOUNCED:g} × without announcements", ALONE, told(ratio), ratio.median >= ANNOUNCED))
    return goals
