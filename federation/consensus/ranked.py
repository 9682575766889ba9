"""Ranked: instant runoff. The option with the fewest first places goes out, until one has more than half of the ballots that still name one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from federation.consensus.counting import Count


class Ranked:
    """Each ballot names some or all options, the best first."""

    name: ClassVar[str] = "ranked"
    about: ClassVar[str] = "instant runoff of ballots that rank options"
    several: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    def winner(self, count: Count) -> str | None:
        """Return who has more than half in the last round."""
        last = self.rounds(count)[-1]
        best = max(last, key=lambda option: (last[option], -count.place(option)))
        return best if last[best] else None

    def surely(self, count: Count, option: str) -> bool:
        """Say whether it has more than half of the first places whatever comes: then there is no second round."""
        return 2 * count.votes[option] > count.all_in

    def possibly(self, count: Count, option: str) -> bool:
        """Say whether anybody may still be for something."""
        return count.all_in > 0

    def rounds(self, count: Count) -> Sequence[Mapping[str, int]]:
        """Return who had how many first places in each round."""
        return list(_rounds(count))


def _rounds(count: Count) -> Iterator[Mapping[str, int]]:
    left = list(count.options)
    while True:
        places = dict.fromkeys(left, 0)
        for choice, weight in count.ballots:
            top = next((option for option in choice if option in places), None)
            if top is not None:
                places[top] += weight
        yield places
        if len(left) == 1 or 2 * max(places.values()) > sum(places.values()):
            return
        # Of equal ones the one that was listed last.
        left.remove(min(left, key=lambda option: (places[option], -count.place(option))))
