"""A table as it is at one moment, to be ranked: from memory where it is held there, else by LanceDB; writes nothing."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from lancedb.query import AsyncQuery, MatchQuery
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.asking import begin, run
from federation.vectors.filters import Scope
from federation.vectors.held import ROW, Held
from federation.vectors.ranking import Entry, Ranking

TEXT: Final = "text"
VECTOR: Final = "vector"


@dataclass(frozen=True, slots=True)
class View:
    """Ranks the rows of a table: those that are held, or if that is None, those that LanceDB's `table` has by then."""

    held: Held | None
    table: Any
    dim: int

    def count(self, scope: Scope) -> int:
        """Return the number of rows that a scope lets through."""
        return int(run(self.table.count_rows(scope.condition()))) if self.held is None else self.held.count(scope)

    def by_words(self, words: str, scope: Scope, depth: int) -> Future[Ranking]:
        """Have LanceDB rank the best `depth` rows by full text (BM25), beside what the caller goes on with."""
        return begin(self._by_words(words, scope, depth))

    async def _by_words(self, words: str, scope: Scope, depth: int) -> Ranking:
        entries = await self._held_by_words(words, scope, depth) if self.held is not None else None
        if entries is None:
            query = self._matching(words)
            entries = await _ranked(query, "_score", scope, depth)
        # Unless the list was cut, what it lacks has none of the words.
        return Ranking(entries, entries[-1].score if len(entries) == depth else 0.0)

    async def _held_by_words(self, words: str, scope: Scope, depth: int) -> list[Entry] | None:
        """Return the same of rows that are held, None if one of them is not: LanceDB takes as long for the columns of its rows as for the ranking."""
        assert self.held is not None
        query = self._matching(words).with_row_id()
        # What is not held fails below, so that nothing passes that the scope leaves out.
        if not self.held.is_within(scope):
            query = query.where(scope.condition())
        found = await query.select([ROW, "_score"]).limit(depth).to_arrow()
        return self.held.entries(found[ROW].to_numpy(), found["_score"].to_pylist())

    def _matching(self, words: str) -> Any:
        # A query that knows its table asks LanceDB for the schema first, in which it looks for columns that none of ours has.
        return AsyncQuery(self.table._inner.query()).nearest_to_text(_match(words))

    def require(self, vector: NDArray[np.float32]) -> None:
        """Raise InvalidInput for a vector that does not fit."""
        if vector.shape != (self.dim,):
            raise InvalidInput("vector", f"shape {vector.shape}", f"shape ({self.dim},)")

    def by_vector(self, vector: NDArray[np.float32], scope: Scope, depth: int, scores: NDArray[np.float32] | None = None) -> Ranking:
        """Return the best `depth` rows by the dot product with `vector`, of unit length; `scores` are those products where they are known.

        Raises InvalidInput for a vector that does not fit.
        """
        self.require(vector)
        if self.held is not None:
            return self.held.best(self.held.scores([vector])[0] if scores is None else scores, scope, depth)
        query = self.table.query().nearest_to(vector).column(VECTOR).distance_type("dot")
        nearest = run(_ranked(query, "_distance", scope, depth))
        entries = [Entry(entry.id, entry.document_id, entry.path, 1.0 - entry.score) for entry in nearest]
        return Ranking(entries, entries[-1].score if entries else 0.0)


def _match(words: str) -> Any:
    match: Any = MatchQuery  # its annotations hide the defaults from type checkers
    return match(words, TEXT)


async def _ranked(query: Any, measure: str, scope: Scope, depth: int) -> list[Entry]:
    if condition := scope.condition():
        query = query.where(condition)
    found = (await query.select(["id", "document_id", "path", measure]).limit(depth).to_arrow()).to_pylist()
    return [Entry(row["id"], row["document_id"], row["path"], row[measure]) for row in found]
