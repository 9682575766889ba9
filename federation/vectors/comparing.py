"""Vectors of questions, and how near to them everything is that is held: of those who search at the same moment it is computed at once."""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from federation.together import Together
from federation.vectors.held import Held
from federation.vectors.view import View

# Searches that are computed at once: of more each takes as long, and the first would wait for the last.
AT_ONCE: Final = 16

Embed: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]
Vector: TypeAlias = NDArray[np.float32] | Embed


class Asked(NamedTuple):
    """A text with its vector, or with what computes those of texts, and the tables with whose rows it is compared."""

    text: str
    vector: Vector
    views: Sequence[View]


class Compared(NamedTuple):
    """The vector of a text, and for each table how near its rows are to it, None where they are not held."""

    vector: NDArray[np.float32]
    scores: Sequence[NDArray[np.float32] | None]


def comparing() -> Together[Sequence[Asked], Sequence[Compared]]:
    """Return what embeds and compares the texts of a search, at once for all who call it at the same moment.

    It raises InvalidInput for a vector that does not fit a table, and what an engine raises, to whose text that is.
    """
    return Together(_compared, most=AT_ONCE)


def _compared(searches: Sequence[Sequence[Asked]]) -> list[list[Compared]]:
    asked = list(chain.from_iterable(searches))
    vectors = _embedded(asked)
    # Nearly always all see the same; who came while something was put sees what was there before, or more.
    held: dict[int, Held] = {}
    places: dict[int, list[int]] = {}
    for place, (each, vector) in enumerate(zip(asked, vectors, strict=True)):
        for view in each.views:
            view.require(vector)
            if view.held is not None:
                held[id(view.held)] = view.held
                places.setdefault(id(view.held), []).append(place)
    scores = {known: dict(zip(places[known], rows.scores([vectors[place] for place in places[known]]), strict=True)) for known, rows in held.items()}
    found = iter(
        [
            Compared(vector, [None if view.held is None else scores[id(view.held)][place] for view in each.views])
            for place, (each, vector) in enumerate(zip(asked, vectors, strict=True))
        ]
    )
    return [list(islice(found, len(search))) for search in searches]


def _embedded(asked: Sequence[Asked]) -> list[NDArray[np.float32]]:
    """Return the vector of each; those that one engine computes, it computes at once."""
    texts: dict[Embed, list[str]] = {}
    for each in asked:
        if callable(each.vector):
            texts.setdefault(each.vector, []).append(each.text)
    computed = {embed: iter(embed(some)) for embed, some in texts.items()}
    return [next(computed[each.vector]) if callable(each.vector) else each.vector for each in asked]
