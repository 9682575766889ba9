"""The rows of a table in memory, without their words: every vector is compared at once, in less time than an index of LanceDB takes to be asked.

Of a vector each number is held as one of 255 steps, which is a quarter of its size and an eighth of the time; LanceDB keeps it as it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numkong
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from federation.vectors.filters import Scope
from federation.vectors.ranking import Entry, Ranking

_VECTOR: Final = "vector"
# What a scope looks at; of each value there are many rows.
_LIMITED: Final = ("document_id", "collection", "path", "kind")
COLUMNS: Final = ("id", *_LIMITED)
# What LanceDB knows a row by; a row that is changed gets another one, and none is given twice.
ROW: Final = "_rowid"
# Steps on each side of zero.
_STEPS: Final = 127
# Of the best of so many groups for each row that is wanted, one is known that all which are wanted reach.
_GROUPS: Final = 4


class _Column(NamedTuple):
    """The values that occur, and which of them each row has."""

    values: Sequence[str]
    places: NDArray[np.int32]

    def where(self, passes: Callable[[str], bool]) -> NDArray[np.bool_] | None:
        """Say of each row whether its value passes; each value is asked once. None if all pass, for which no row is looked at."""
        passing = np.fromiter(map(passes, self.values), dtype=np.bool_, count=len(self.values))
        return None if passing.all() else passing[self.places]

    def of(self, rows: NDArray[np.intp]) -> list[str]:
        return [self.values[place] for place in self.places[rows].tolist()]

    def joined(self, later: "_Column") -> "_Column":
        known = {value: place for place, value in enumerate(self.values)}
        places = np.array([known.setdefault(value, len(known)) for value in later.values], dtype=np.int32)
        return _Column(list(known), np.concatenate([self.places, places[later.places]]))


def _stepped(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return vectors in whole steps, and how long a step of each is: its longest number has all of them."""
    steps = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-30)) / np.float32(_STEPS)
    return np.rint(vectors / steps[:, None]).astype(np.int8), steps


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.intp]:
    """Return the places of the best `depth` of at least as many scores, best first."""
    each = max(1, len(scores) // (_GROUPS * depth))
    groups = len(scores) // each
    # As many as are wanted reach the worst of the best groups, and little else does: to order all takes as long again as to compare the vectors.
    tops = scores[: groups * each].reshape(each, groups).max(axis=0)
    places = np.flatnonzero(scores >= np.partition(tops, groups - depth)[groups - depth])
    return places[np.argsort(-scores[places], kind="stable")[:depth]]


class _Block(NamedTuple):
    """Vectors in steps, laid out for the processor."""

    packed: numkong.PackedMatrix
    steps: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "_Block":
        stepped, steps = _stepped(vectors)
        return cls(numkong.dots_pack(stepped, dtype="int8"), steps)


@dataclass(frozen=True, slots=True)
class Held:
    """What a table had at one version; threads may share it, and nobody changes it."""

    version: int
    _ids: pa.StringArray
    # In order, and the place of each among the ids.
    _rows: NDArray[np.uint64]
    _order: NDArray[np.intp]
    _columns: dict[str, _Column]
    _blocks: Sequence[_Block]

    def scores(self, vectors: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return for each vector its dot products with those of all rows, which are read from memory once for all of them."""
        scores, start = np.empty((len(vectors), len(self)), dtype=np.float32), 0
        stepped, steps = _stepped(np.stack(vectors))
        for block in self._blocks:
            # Sums of whole numbers, which single precision holds as they are.
            sums = np.asarray(numkong.dots_packed(stepped, block.packed)).astype(np.float32)
            np.multiply(sums, block.steps, out=scores[:, start : start + len(block.steps)])
            start += len(block.steps)
        scores *= steps[:, None]
        return list(scores)

    @classmethod
    def of(cls, version: int, batches: pa.RecordBatchReader, dim: int) -> "Held":
        """Return what is in these rows, which have COLUMNS, ROW and a vector each; no more than a batch is in memory as it was read."""
        blocks, read, columns = [], [], {}
        for batch in batches:
            blocks.append(_Block.of(batch[_VECTOR].flatten().to_numpy().reshape(-1, dim)))
            read.append(batch.drop_columns([_VECTOR]))
        rows = pa.Table.from_batches(read, batches.schema.remove(batches.schema.get_field_index(_VECTOR)))
        for name in _LIMITED:
            coded = rows[name].combine_chunks().dictionary_encode()
            columns[name] = _Column(coded.dictionary.to_pylist(), coded.indices.to_numpy())
        numbers = rows[ROW].to_numpy()
        order = np.argsort(numbers)
        # In one piece: of several Arrow makes one each time that some are taken.
        return cls(version, rows["id"].combine_chunks(), numbers[order], order, columns, blocks)

    def joined(self, later: "Held") -> "Held":
        """Return both, with the version of the later one, whose rows came after these; nothing is copied but what is small."""
        columns = {name: column.joined(later._columns[name]) for name, column in self._columns.items()}
        ids = pa.concat_arrays([self._ids, later._ids])
        order = np.concatenate([self._order, later._order + len(self._order)])
        return Held(later.version, ids, np.concatenate([self._rows, later._rows]), order, columns, [*self._blocks, *later._blocks])

    def __len__(self) -> int:
        return len(self._rows)

    def behind(self) -> str | None:
        """Return the condition of rows that were put after these, None without one of these."""
        return f"{ROW} > {self._rows[-1]}" if len(self._rows) else None

    def count(self, scope: Scope) -> int:
        """Return how many rows a scope lets through."""
        passing = self._passing(scope)
        return len(self._ids) if passing is None else int(np.count_nonzero(passing))

    def best(self, scores: NDArray[np.float32], scope: Scope, depth: int) -> Ranking:
        """Return the `depth` rows of a scope that have the best of these scores, which are of all rows."""
        passing = self._passing(scope)
        rows = None if passing is None else np.flatnonzero(passing)
        if rows is not None:
            scores = scores[rows]
        if len(scores) == 0:
            return Ranking([], 0.0)
        best = _best(scores, min(depth, len(scores)))
        entries = self._entries(best if rows is None else rows[best], scores[best].tolist())
        return Ranking(entries, entries[-1].score)

    def entries(self, rows: NDArray[np.uint64], scores: Sequence[float]) -> list[Entry] | None:
        """Return what LanceDB has found by its numbers of rows, None if one of them is not here."""
        places = np.searchsorted(self._rows, rows)
        if not np.array_equal(self._rows[np.minimum(places, len(self._rows) - 1)] if len(self._rows) else [], rows):
            return None
        return self._entries(self._order[places], scores)

    def _entries(self, places: NDArray[np.intp], scores: Sequence[float]) -> list[Entry]:
        ids = self._ids.take(pa.array(places)).to_pylist()
        return list(map(Entry, ids, self._columns["document_id"].of(places), self._columns["path"].of(places), scores))

    def is_within(self, scope: Scope) -> bool:
        """Say whether a scope lets all through."""
        passing = self._passing(scope)
        return passing is None or bool(passing.all())

    def _passing(self, scope: Scope) -> NDArray[np.bool_] | None:
        """Say of each row whether a scope lets it through; None if it lets all through."""
        passing: NDArray[np.bool_] | None = None
        for column, passes in scope.tests():
            here = self._columns[column].where(passes)
            if here is not None:
                passing = here if passing is None else passing & here
        return passing
