"""What choosing costs on one process, alone: a choice among nodes that were looked at, and the look itself."""

import random
import time
from dataclasses import dataclass

from benchmarks.placement.simulation import ASKED, BUSY, some_key, some_nodes
from federation.placement.roster import Roster

_TRIES, _FEWEST = 7, 2_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds for one choice, and for sorting out the nodes after a look, for one kind of requirements; the best of some tries."""

    choice_us: float
    look_us: float


def cost(nodes: int) -> Cost:
    """Place half as many executions as there are nodes, on nodes that are as busy as in the simulation."""
    dice = random.Random(nodes)
    views = [view.model_copy(update={"outstanding": int(dice.random() * 2 * BUSY * view.concurrency)}) for view in some_nodes(nodes)]
    kinds, weights = zip(*ASKED, strict=True)
    choices, looks = [], []
    for _ in range(_TRIES):
        asked = dice.choices(kinds, weights, k=max(nodes // 2, _FEWEST))
        wanted = [(kind, some_key(dice) if kind.engine else None) for kind in asked]
        began = time.perf_counter()
        roster = Roster(views, dice=dice)
        for kind in kinds:
            roster.sort_out(kind)
        looked = time.perf_counter()
        for kind, key in wanted:
            roster.place(kind, key=key)
        choices.append((time.perf_counter() - looked) / len(wanted))
        looks.append((looked - began) / len(kinds))
    return Cost(min(choices) * 1e6, min(looks) * 1e6)
