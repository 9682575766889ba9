"""Summaries made of the sentences themselves, by centroid and maximal marginal relevance; writes no word of its own.

Carbonell and Goldstein 1998, https://dl.acm.org/doi/10.1145/290941.291025.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.engines.sentences import sentences_of
from federation.errors import InvalidInput

# Shorter ones («ok», «thanks all») lie near every centroid and say nothing.
MIN_WORDS: Final = 4
# Above 0.3 odd sentences win because they resemble nothing.
DIVERSITY: Final = 0.3
# Characters of a sentence: a log or a list without points is one too, and would be the whole summary.
LONGEST_SENTENCE: Final = 400
_CUT: Final = "…"

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Extract:
    """A sentence of a message, of a long one its beginning and «…»; `message_index` counts from 0."""

    message_index: int
    sentence: str


def pick(vectors: NDArray[np.float32], *, limit: int, always: Collection[int] = (), diversity: float = DIVERSITY) -> list[int]:
    """Return the indices of the most central rows that do not repeat each other, ascending, at most `limit`.

    `vectors` are of unit length, shape (n, dim); rows in `always` come first and count. diversity 0 is centrality alone.
    """
    chosen = sorted(always)[:limit]
    if not len(vectors):
        return chosen
    centroid = vectors.mean(axis=0)
    centrality = vectors @ (centroid / max(float(np.linalg.norm(centroid)), 1e-12))
    likeness = vectors @ vectors.T
    while len(chosen) < min(limit, len(vectors)):
        repeats = likeness[:, chosen].max(axis=1) if chosen else np.zeros(len(vectors), dtype=np.float32)
        score = (1 - diversity) * centrality - diversity * repeats
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
    return sorted(chosen)


def distinct(sentences: Sequence[str]) -> list[int]:
    """Return the index of the first of those that have the same words, in order."""
    first: dict[tuple[str, ...], int] = {}
    for index, sentence in enumerate(sentences):
        first.setdefault(tuple(re.findall(r"\w+", sentence.casefold())), index)
    return list(first.values())


def _cut(sentence: str) -> str:
    """Return a sentence, of a long one its first words."""
    if len(sentence) <= LONGEST_SENTENCE:
        return sentence
    beginning = sentence[: LONGEST_SENTENCE - len(_CUT)]
    end = beginning.rfind(" ", LONGEST_SENTENCE // 2)
    # A word that is longer than half of it is cut itself.
    return beginning[: end if end > 0 else None].rstrip() + _CUT


def summarise(messages: Sequence[str], embed: Embed, *, max_sentences: int) -> list[Extract]:
    """Return at most `max_sentences` sentences in their order; `embed` gives unit vectors, shape (n, dim).

    The first message opens the summary: its sentences, up to half of what is allowed, because it says what the talk is about. What several say in
    the same words is there once, unless all fits.
    Raises InvalidInput if `max_sentences` is below 1.
    """
    if max_sentences < 1:
        raise InvalidInput("max_sentences", max_sentences, "1 or more")
    every = [Extract(index, _cut(sentence)) for index, message in enumerate(messages) for sentence in sentences_of(message)]
    if len(every) > max_sentences:
        every = [every[index] for index in distinct([extract.sentence for extract in every])]
    if len(every) <= max_sentences:
        return every
    opening = [extract for extract in every if extract.message_index == every[0].message_index][: (max_sentences + 1) // 2]
    rest = every[len(opening) :]
    telling = [extract for extract in rest if len(extract.sentence.split()) >= MIN_WORDS]
    candidates = opening + (telling if len(telling) >= max_sentences - len(opening) else rest)
    picked = pick(embed([extract.sentence for extract in candidates]), limit=max_sentences, always=range(len(opening)))
    return [candidates[index] for index in picked]
