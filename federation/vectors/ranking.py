"""Rankings of chunks to the places that answer; knows no store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """A row that a ranker found; a higher score is better."""

    id: str
    document_id: str
    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a ranker found, best first; what it did not list has at most the score `floor`."""

    entries: Sequence[Entry]
    floor: float

    def shares(self) -> list[float]:
        """Return each score as its share of the way from the floor to the best one.

        Shares of different rankers may be added, which used the scores themselves better than reciprocal ranks did:
        https://dl.acm.org/doi/10.1145/3596512.
        """
        best = self.entries[0].score if self.entries else self.floor
        return [(entry.score - self.floor) / (best - self.floor) if best > self.floor else 1.0 for entry in self.entries]


class Hit(NamedTuple):
    """A chunk that was found; `score` compares within one search only.

    `ranks` says by which ranker the chunk was found at which place, from 1.
    """

    id: str
    document_id: str
    path: str
    score: float
    ranks: Mapping[str, int]


@dataclass(slots=True)
class _Chunk:
    entry: Entry
    score: float
    ranks: dict[str, int] = field(default_factory=dict)


def fused(rankings: Mapping[str, tuple[float, Ranking]], documents: Sequence[tuple[float, Ranking]] = (), *, limit: int | None = None) -> list[Hit]:
    """Return the chunks in any ranking, best first and at most `limit`, by the sum of their shares in the rankings, each with its weight.

    To each chunk come the shares of its document in the rankings of `documents`; a document of which no chunk was found adds none.
    """
    whole: dict[str, float] = {}
    for weight, ranking in documents:
        for entry, share in zip(ranking.entries, ranking.shares(), strict=True):
            whole[entry.document_id] = whole.get(entry.document_id, 0.0) + weight * share
    found: dict[str, _Chunk] = {}
    for ranker, (weight, ranking) in rankings.items():
        for rank, (entry, share) in enumerate(zip(ranking.entries, ranking.shares(), strict=True), start=1):
            if (chunk := found.get(entry.id)) is None:
                chunk = found[entry.id] = _Chunk(entry, whole.get(entry.document_id, 0.0))
            chunk.score += weight * share
            chunk.ranks[ranker] = rank
    best = sorted(found.values(), key=lambda chunk: (-chunk.score, chunk.entry.path, chunk.entry.id))[:limit]
    return [Hit(chunk.entry.id, chunk.entry.document_id, chunk.entry.path, chunk.score, chunk.ranks) for chunk in best]
