"""The rows of a table in memory, without their words: every vector is compared at once, in less time than an index of LanceDB takes to be asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from federation.vectors.filters import Scope
from federation.vectors.ranking import Entry, Ranking

_VECTOR: Final = "vector"
# What a scope looks at; of each value there are many rows.
_LIMITED: Final = ("document_id", "collection", "path", "kind")
COLUMNS: Final = ("id", *_LIMITED)


class _Column(NamedTuple):
    """The values that occur, and which of them each row has."""

    values: Sequence[str]
    places: NDArray[np.int32]

    def where(self, passes: Callable[[str], bool]) -> NDArray[np.bool_]:
        """Say of each row whether its value passes; each value is asked once."""
        return np.fromiter(map(passes, self.values), dtype=np.bool_, count=len(self.values))[self.places]

    def of(self, row: int) -> str:
        return self.values[int(self.places[row])]


@dataclass(frozen=True, slots=True)
class Held:
    """What a table had at one version; threads may share it, and nobody changes it."""

    version: int
    _ids: pa.ChunkedArray
    _columns: dict[str, _Column]
    # As they were read, because one array of all would be a copy.
    _blocks: Sequence[NDArray[np.float32]]

    @classmethod
    def of(cls, version: int, rows: pa.Table, dim: int) -> "Held":
        """Return what is in these rows, which have COLUMNS and a vector each."""
        columns = {}
        for name in _LIMITED:
            coded = rows[name].combine_chunks().dictionary_encode()
            columns[name] = _Column(coded.dictionary.to_pylist(), coded.indices.to_numpy())
        return cls(version, rows["id"], columns, [block.flatten().to_numpy().reshape(-1, dim) for block in rows[_VECTOR].chunks])

    def count(self, scope: Scope) -> int:
        """Return how many rows a scope lets through."""
        passing = self._passing(scope)
        return len(self._ids) if passing is None else int(np.count_nonzero(passing))

    def nearest(self, vector: NDArray[np.float32], scope: Scope, depth: int) -> Ranking:
        """Return the best `depth` rows by the dot product with `vector`."""
        scores = np.concatenate([np.empty(0, dtype=np.float32), *(block @ vector for block in self._blocks)])
        passing = self._passing(scope)
        if passing is not None:
            scores[~passing] = -np.inf
        depth = min(depth, len(scores) if passing is None else int(np.count_nonzero(passing)))
        if depth == 0:
            return Ranking([], 0.0)
        best = np.argpartition(scores, len(scores) - depth)[-depth:]
        best = best[np.argsort(-scores[best], kind="stable")]
        documents, paths = self._columns["document_id"], self._columns["path"]
        ids = self._ids.take(pa.array(best)).to_pylist()
        entries = [
            Entry(identity, documents.of(row), paths.of(row), score)
            for identity, row, score in zip(ids, best.tolist(), scores[best].tolist(), strict=True)
        ]
        return Ranking(entries, entries[-1].score)

    def _passing(self, scope: Scope) -> NDArray[np.bool_] | None:
        """Say of each row whether a scope lets it through; None if it lets all through."""
        passing: NDArray[np.bool_] | None = None
        for column, passes in scope.tests():
            here = self._columns[column].where(passes)
            passing = here if passing is None else passing & here
        return passing
