"""A consistent-hash ring: a key's nodes in an order that a node which comes or goes hardly changes; knows names alone."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

# More points share the keys out more evenly; the bound on load does the rest.
POINTS = 32


class Ring:
    """The points of some nodes, in order (Karger et al., Consistent Hashing and Random Trees, 1997)."""

    def __init__(self, names: Sequence[str]) -> None:
        points = sorted((_point(f"{name}\0{number}"), name) for name in names for number in range(POINTS))
        self._points = [point for point, _ in points]
        self._names = [name for _, name in points]

    def walk(self, key: str, *, skip: int = 0) -> Iterator[str]:
        """Yield the names from the key's point on, once around, but for the first `skip`; a name comes as often as it has points."""
        first, names = bisect(self._points, _point(key)), self._names
        for step in range(skip, len(names)):
            yield names[(first + step) % len(names)]


@lru_cache(maxsize=64)
def ring_of(names: tuple[str, ...]) -> Ring:
    """Return the ring of these nodes; the same nodes are asked for again and again."""
    return Ring(names)


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
