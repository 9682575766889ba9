"""Chooses the node for an execution: capable and alive first, then affinity, then least load; decides from values, reads nothing.

A choice looks at a few nodes, and at the lowest of the few levels of load that there are, however many nodes there are. Only once after each look
at the nodes, and once for each kind of requirements, all are gone through.
"""

import heapq
import math
import random
from collections.abc import Mapping, Sequence

from federation.placement.fitting import Unplaceable, capable
from federation.placement.node import NodeView
from federation.placement.requirements import Requirements
from federation.placement.ring import Ring, ring_of

# A node may hold this much more than its share before a key moves on (Mirrokni et al., Consistent Hashing with Bounded Loads, 2018).
BOUND = 1.25
# So far a key looks for a free place near its own node; farther away nothing is warm for it that is not warm elsewhere.
NEAR = 64


class Roster:
    """Nodes as they were seen at one moment, and the work that was placed on them since: what one placement adds, the next one sees."""

    def __init__(self, nodes: Sequence[NodeView], *, dice: random.Random | None = None) -> None:
        self._nodes = nodes
        self._dice = dice or random.Random()  # noqa: S311 - no secret hangs on it
        self._loads = {node.name: node.outstanding for node in nodes}
        self._fitting: dict[Requirements, _Fitting | Unplaceable] = {}
        self._of_node: dict[str, list[_Fitting]] = {node.name: [] for node in nodes}

    def place(self, requirements: Requirements, *, key: str | None = None) -> str | Unplaceable:
        """Return the name of the node to send to, which then has one more execution, or what is missing.

        Equal `key`s go to the same node until that node holds more than its share, or has no free place and another has one.
        Without a key the least loaded node takes it, and of equals any.
        """
        fitting = self._fitting.get(requirements) or self.sort_out(requirements)
        if isinstance(fitting, Unplaceable):
            return fitting
        chosen = fitting.least() if key is None else fitting.near(key)
        self._loads[chosen] += 1
        for other in self._of_node[chosen]:
            other.load += 1
        return chosen

    def sort_out(self, requirements: Requirements) -> "_Fitting | Unplaceable":
        """Find the nodes that fit, as the first placement with these requirements does."""
        found = capable(requirements, self._nodes)
        self._fitting[requirements] = fitting = found if isinstance(found, Unplaceable) else _Fitting(found, self._loads, self._dice)
        if isinstance(fitting, _Fitting):
            for name in fitting.places:
                self._of_node[name].append(fitting)
        return fitting


class _Fitting:
    """The live nodes that fit some requirements; `loads` is shared with the others and only grows, `load` is the sum of these nodes'."""

    def __init__(self, nodes: Sequence[NodeView], loads: Mapping[str, int], dice: random.Random) -> None:
        self.places = {node.name: node.concurrency for node in nodes}
        self.load = sum(loads[name] for name in self.places)
        self._loads = loads
        self._slots = sum(self.places.values())
        # Who has how much work for each place, and these levels as a heap.
        self._at_level: dict[float, list[str]] = {}
        self._levels: list[float] = []
        # Equals in an order of chance, so that two who place do not begin with the same node.
        for name in dice.sample(list(self.places), k=len(self.places)):
            self._put(name)
        self._ring: Ring | None = None
        # So many of a key's nodes, from its first one on, were full; loads only grow, so they still are.
        self._full: dict[str, int] = {}

    def least(self) -> str:
        """Return the node with the least work for each of its places."""
        while True:
            level = self._levels[0]
            names = self._at_level[level]
            while names:
                if self._loads[names[-1]] / self.places[names[-1]] == level:
                    return names[-1]
                # It was given work since; loads only grow, so whoever stands at the lowest level rightly has the least.
                self._put(names.pop())
            del self._at_level[heapq.heappop(self._levels)]

    def _put(self, name: str) -> None:
        level = self._loads[name] / self.places[name]
        if level not in self._at_level:
            self._at_level[level] = []
            heapq.heappush(self._levels, level)
        self._at_level[level].append(name)

    def near(self, key: str) -> str:
        """Return the key's first node that has a free place, else the least loaded if that has one, else its first below the bound."""
        if self._ring is None:
            self._ring = ring_of(tuple(sorted(self.places)))
        least = self.least()
        any_free = self._loads[least] < self.places[least]
        # With this one counted; at least one node lies below its bound, because the bounds add up to more than the load.
        limit = BOUND * (self.load + 1) / self._slots
        full = self._full.get(key, 0) if any_free else 0
        for step, name in enumerate(self._ring.walk(key, skip=full), full):
            load, places = self._loads[name], self.places[name]
            if any_free and step >= NEAR:
                break
            if load >= places and step == full:
                self._full[key] = full = step + 1
            # What is warm saves less time than the wait for a place costs.
            if load < math.ceil(limit * places) and (load < places or not any_free):
                return name
        return least
