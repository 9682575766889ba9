"""Placement on nodes that are not there: arrivals, queues and ends are simulated, the choices are made by the program's own code."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from federation.placement.fitting import Unplaceable, capable
from federation.placement.node import Gpu, NodeView
from federation.placement.requirements import Requirements
from federation.placement.roster import Roster

Policy = Literal["ours", "random"]

# Processes that place, each with a picture of its own, which is so old at most (as in delivery).
DOORS, FRESH_S = 4, 0.5
# Of all places, so many are busy on average; an execution takes one second on average.
BUSY = 0.8
# Beginnings of prompts, and how many of them a node keeps warm.
PREFIXES, CACHED = 5_000, 50
_CARDS = (16.0, 24.0, 32.0)
_PLACES = (4, 2, 8)
_ROLES = ("lead", "developer", "analyst")
# What is asked for, and how often: no single kind needs more than the nodes that can do it have.
ASKED = (
    (Requirements(), 0.68),
    *((Requirements(role=role), 0.05) for role in _ROLES),
    (Requirements(min_vram_gib=24), 0.05),
    (Requirements(engine="llamacpp"), 0.12),
)


@dataclass(slots=True)
class Outcome:
    """What one simulation found, in its own seconds."""

    nodes: int
    executions: int
    policy: Policy
    wait_p50_s: float = 0.0
    wait_p99_s: float = 0.0
    wait_max_s: float = 0.0
    # The fullest node's unfinished work for each of its places, at each simulated second: its 99th percentile and the most; and the average of all.
    fullest: float = 0.0
    fullest_max: float = 0.0
    average: float = 0.0
    # Of the executions with a prefix, so many came to a node that had seen it.
    warm: float = 0.0


@dataclass(slots=True)
class _Machine:
    view: NodeView
    running: int = 0
    waiting: deque[tuple[float, float]] = field(default_factory=deque)
    # Beginnings of prompts that were seen here, the latest last.
    seen: dict[str, None] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        return self.running + len(self.waiting)


def some_nodes(count: int) -> list[NodeView]:
    """Return so many nodes of mixed size; every third has GPUs and a language model."""
    made = []
    for number in range(count):
        cards = (Gpu(kind="simulated", vram_gib=_CARDS[number // 3 % 3]),) * 2 if number % 3 == 0 else ()
        engines = ("llamacpp",) if cards else ()
        made.append(NodeView(name=f"node-{number}", role=_ROLES[number // 2 % 3], gpus=cards, engines=engines, concurrency=_PLACES[number % 3]))
    return made


def some_key(dice: random.Random) -> str:
    """Return the beginning of a prompt: few are asked again and again, most seldom."""
    return f"prefix {int(dice.paretovariate(1)) % PREFIXES}"


class Simulation:
    """One run of a day's work on some nodes; the same seed makes the same arrivals for each policy."""

    def __init__(self, nodes: int, executions: int, policy: Policy, *, seed: int = 1) -> None:
        self._arrivals, self._dice = random.Random(seed), random.Random(seed + 1)
        self._machines = {view.name: _Machine(view) for view in some_nodes(nodes)}
        self._found = Outcome(nodes, executions, policy)
        self._ends: list[tuple[float, str]] = []
        self._waits: list[float] = []
        self._fullest: list[float] = []
        self._averages: list[float] = []
        self._prefixed = self._hits = 0
        self._capable: dict[Requirements, tuple[list[str], list[int]]] = {}

    def run(self, tell: Callable[[int], None] = lambda done: None) -> Outcome:
        """Simulate until each execution has begun; `tell` hears how many have arrived."""
        found, dice = self._found, self._arrivals
        places = sum(machine.view.concurrency for machine in self._machines.values())
        doors = [Roster([]) for _ in range(DOORS)]
        looks_at = [0.0] * DOORS
        now, sample_at = 0.0, 5.0
        kinds, weights = zip(*ASKED, strict=True)
        for number in range(found.executions):
            now += dice.expovariate(BUSY * places)
            self._until(now)
            if now >= sample_at:
                self._sample()
                sample_at += 1.0
            asked = dice.choices(kinds, weights)[0]
            key = some_key(dice) if asked.engine else None
            takes, door = dice.expovariate(1.0), dice.randrange(DOORS)
            if now >= looks_at[door]:
                doors[door], looks_at[door] = self._looked(), now + FRESH_S
            self._arrive(self._chosen(doors[door], asked, key), key, now, takes)
            if number % 10_000 == 0:
                tell(number)
        self._until(math.inf)
        self._waits.sort()
        found.wait_p50_s, found.wait_p99_s, found.wait_max_s = (_quantile(self._waits, q) for q in (0.5, 0.99, 1.0))
        found.fullest, found.fullest_max = (_quantile(sorted(self._fullest), q) for q in (0.99, 1.0))
        found.average = sum(self._averages) / max(len(self._averages), 1)
        found.warm = self._hits / max(self._prefixed, 1)
        return found

    def _looked(self) -> Roster:
        views = [machine.view.model_copy(update={"outstanding": machine.unfinished}) for machine in self._machines.values()]
        return Roster(views, dice=self._dice)

    def _chosen(self, roster: Roster, asked: Requirements, key: str | None) -> str:
        if self._found.policy == "random":
            return self._dice.choices(*self._capable_of(asked))[0]
        chosen = roster.place(asked, key=key)
        assert not isinstance(chosen, Unplaceable)
        return chosen

    def _capable_of(self, asked: Requirements) -> tuple[list[str], list[int]]:
        """Return the names of the nodes that fit, and their places as weights."""
        if asked not in self._capable:
            fitting = capable(asked, [machine.view for machine in self._machines.values()])
            assert not isinstance(fitting, Unplaceable)
            self._capable[asked] = [view.name for view in fitting], [view.concurrency for view in fitting]
        return self._capable[asked]

    def _arrive(self, name: str, key: str | None, now: float, takes: float) -> None:
        machine = self._machines[name]
        if key is not None:
            self._prefixed += 1
            self._hits += key in machine.seen
            machine.seen.pop(key, None)
            machine.seen[key] = None
            if len(machine.seen) > CACHED:
                del machine.seen[next(iter(machine.seen))]
        machine.waiting.append((now, takes))
        self._begin(machine, now)

    def _begin(self, machine: _Machine, now: float) -> None:
        while machine.waiting and machine.running < machine.view.concurrency:
            arrived, takes = machine.waiting.popleft()
            machine.running += 1
            self._waits.append(now - arrived)
            heapq.heappush(self._ends, (now + takes, machine.view.name))

    def _until(self, now: float) -> None:
        """Let end what ends before this moment."""
        while self._ends and self._ends[0][0] <= now:
            ended_at, name = heapq.heappop(self._ends)
            machine = self._machines[name]
            machine.running -= 1
            self._begin(machine, ended_at)

    def _sample(self) -> None:
        shares = [machine.unfinished / machine.view.concurrency for machine in self._machines.values()]
        self._fullest.append(max(shares))
        self._averages.append(sum(shares) / len(shares))


def _quantile(ordered: list[float], quantile: float) -> float:
    return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)] if ordered else 0.0
