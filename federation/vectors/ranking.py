"""Rankings of chunks to the places that answer, or to the documents that do, each with its best place; knows no store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Entry:
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


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found; `score` compares within one search only, and is its document's where only the best chunk of each is shown.

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
    share: float = 0.0
    ranks: dict[str, int] = field(default_factory=dict)


def _chunks(rankings: Mapping[str, Ranking]) -> list[_Chunk]:
    """Return the chunks in any ranking, best first."""
    found: dict[str, _Chunk] = {}
    for ranker, ranking in rankings.items():
        for rank, (entry, share) in enumerate(zip(ranking.entries, ranking.shares(), strict=True), start=1):
            chunk = found.setdefault(entry.id, _Chunk(entry))
            chunk.share += share
            chunk.ranks[ranker] = rank
    return sorted(found.values(), key=lambda chunk: (-chunk.share, chunk.entry.id))


def _evidence(rankings: Sequence[Ranking]) -> dict[str, float]:
    """Return the sum over the rankings of the best share that a file has in each."""
    total: dict[str, float] = {}
    for ranking in rankings:
        best: dict[str, float] = {}
        for entry, share in zip(ranking.entries, ranking.shares(), strict=True):
            best[entry.document_id] = max(share, best.get(entry.document_id, 0.0))
        for document_id, share in best.items():
            total[document_id] = total.get(document_id, 0.0) + share
    return total


def best_places(chunks: Mapping[str, Ranking], files: Mapping[str, Ranking]) -> list[Hit]:
    """Return the files that have a chunk in any ranking, best first, each with its best chunk.

    A file counts by its best chunk and as a whole, with the same weight: a long file then does not win by many fair chunks, nor
    a chance likeness of one chunk against a file about something else. After https://dl.acm.org/doi/10.1007/978-1-4471-2099-5_31
    (evidence of passages and of documents, combined).
    """
    evidence = _evidence([*chunks.values(), *files.values()])
    places: dict[str, _Chunk] = {}
    for chunk in _chunks(chunks):
        places.setdefault(chunk.entry.document_id, chunk)
    hits = [Hit(chunk.entry.id, document, chunk.entry.path, evidence[document], chunk.ranks) for document, chunk in places.items()]
    # Ties go by path and id, so that the same search gives the same order.
    return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.document_id))


def fused(rankings: Mapping[str, tuple[float, Ranking]]) -> list[Hit]:
    """Return all chunks in any ranking, best first, by the sum of their shares in the rankings, each with its weight."""
    found: dict[str, _Chunk] = {}
    for ranker, (weight, ranking) in rankings.items():
        for rank, (entry, share) in enumerate(zip(ranking.entries, ranking.shares(), strict=True), start=1):
            chunk = found.setdefault(entry.id, _Chunk(entry))
            chunk.share += weight * share
            chunk.ranks[ranker] = rank
    hits = [Hit(chunk.entry.id, chunk.entry.document_id, chunk.entry.path, chunk.share, chunk.ranks) for chunk in found.values()]
    return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.id))
