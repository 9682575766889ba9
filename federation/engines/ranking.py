"""In which order the models of a node are asked one question, and why: by a stated policy, by where its prefix is kept, by length of queue."""

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Protocol, TypeVar

from federation.engines.contracts import Asked

# A question is simple that has no more than this, all its messages together, and asks for no more.
SIMPLE_CHARACTERS: Final = 1_000
SIMPLE_TOKENS: Final = 128
# A server may have this much more than its share before a prefix is asked for elsewhere, as nodes in placement.
BOUND: Final = 1.25

FIRST, SMALL, LARGE = "it is the first of the list", "a small model for a simple question", "the question is not simple"
WARM, SHORTEST = "the beginning of the prompt is asked for there", "its queue is the shortest"


class Ranked(Protocol):
    """What is ranked."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def places(self) -> int:
        """How many requests it works on at once; more of them wait."""
        ...

    @property
    def is_small(self) -> bool:
        """Whether it is asked first what is simple, and last what is not."""
        ...

    @property
    def rests(self) -> bool:
        """Whether it has failed and not yet answered again."""
        ...

    def depth(self) -> int:
        """Return how many requests it has. Never raises; one that does not tell rests from then on."""
        ...


R = TypeVar("R", bound=Ranked)


def is_simple(asked: Asked) -> bool:
    """Say whether a small model may try first."""
    return asked.max_tokens <= SIMPLE_TOKENS and sum(len(message.content) for message in asked.messages) <= SIMPLE_CHARACTERS


def order(sources: Sequence[R], asked: Asked, *, key: str | None) -> Iterator[tuple[R, str]]:
    """Yield who is asked, one after another, each with the reason; servers of one model share its questions."""
    simple = is_simple(asked)
    ranked = sorted(sources, key=lambda source: source.is_small is not simple)
    mixed = len({source.is_small for source in sources}) > 1
    why = (SMALL if simple else LARGE) if mixed else FIRST
    for model in dict.fromkeys(source.model for source in ranked):
        replicas = [source for source in ranked if source.model == model]
        if len(replicas) == 1:
            yield replicas[0], why
        else:
            yield from _shared(replicas, key)


def _shared(replicas: Sequence[R], key: str | None) -> Iterator[tuple[R, str]]:
    # Those that rest are gone past anyhow, and are not asked for their queues.
    depths = {source.name: 0 if source.rests else source.depth() for source in replicas}
    home = sorted(replicas, key=lambda source: _weight(source.name, key)) if key is not None else list(replicas)
    by_queue = sorted(home, key=lambda source: depths[source.name])
    first, *_ = awake = [source for source in home if not source.rests] or home
    # What is cached saves less time than the wait for a place costs.
    if key is not None and depths[first.name] < max(first.places, _limit(depths, len(awake))):
        yield first, WARM
        yield from ((source, SHORTEST) for source in by_queue if source is not first)
    else:
        yield from ((source, SHORTEST) for source in by_queue)


def _limit(depths: Mapping[str, int], count: int) -> int:
    # With this question counted (Mirrokni et al., Consistent Hashing with Bounded Loads, 2018).
    return math.ceil(BOUND * (sum(depths.values()) + 1) / count)


def _weight(name: str, key: str | None) -> bytes:
    # Rendezvous hashing (Thaler and Ravishankar, 1998): a server that comes or goes moves only its own keys.
    return blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
