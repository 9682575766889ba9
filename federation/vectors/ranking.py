"""Fuses rankings and groups hits by file; knows no store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# Reciprocal rank fusion: https://dl.acm.org/doi/10.1145/1571941.1572114. Its k of 60 was weaker on code.
RRF_K: Final = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found; `ranks` says by which ranker at which place, from 1; scores compare within one search only."""

    id: str
    document_id: str
    path: str
    score: float
    ranks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FileHit:
    """A file that was found, with its hits, best first."""

    document_id: str
    path: str
    score: float
    hits: tuple[Hit, ...]


def fuse(rankings: Mapping[str, Sequence[str]], weights: Mapping[str, float]) -> list[tuple[str, float, dict[str, int]]]:
    """Return (id, score, rank by ranker) of every id in any ranking, best first; a ranker without a weight counts 1."""
    scores: dict[str, float] = {}
    ranks: dict[str, dict[str, int]] = {}
    for ranker, ids in rankings.items():
        for rank, key in enumerate(ids, start=1):
            scores[key] = scores.get(key, 0.0) + weights.get(ranker, 1.0) / (RRF_K + rank)
            ranks.setdefault(key, {})[ranker] = rank
    # Ties go by id, so that the same search gives the same order.
    return [(key, scores[key], ranks[key]) for key in sorted(scores, key=lambda key: (-scores[key], key))]


def by_file(hits: Sequence[Hit], *, decay: float = 0.5) -> list[FileHit]:
    """Return the files of `hits`, best first: each further hit of a file counts `decay` times the one before it."""
    grouped: dict[str, list[Hit]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id)):
        grouped.setdefault(hit.document_id, []).append(hit)
    files = [
        FileHit(document, group[0].path, sum(hit.score * decay**place for place, hit in enumerate(group)), tuple(group))
        for document, group in grouped.items()
    ]
    return sorted(files, key=lambda file: (-file.score, file.path, file.document_id))
