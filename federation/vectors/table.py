"""The table `chunks` of LanceDB: words and vectors for ranking, never the text to show; one process writes at a time."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, IvfFlat
from lancedb.query import MatchQuery
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.chunking import Chunk
from federation.vectors.filters import EVERYTHING, Scope, one_of
from federation.vectors.ranking import Hit, fuse
from federation.vectors.wording import query_text

DIM: Final = 384
NAME: Final = "chunks"
TEXT: Final = "text"
VECTOR: Final = "vector"
# A flat search of 50 k rows takes 80 ms, and below it is exact; an index of them builds in 5 s.
INDEX_ABOVE: Final = 50_000
# Readers that opened an old version must be able to finish.
KEEP_VERSIONS: Final = timedelta(hours=2)
DEPTH: Final = 100
WEIGHTS: Final[Mapping[str, float]] = MappingProxyType({TEXT: 1.0, VECTOR: 1.0})

SCHEMA: Final = pa.schema(
    [
        # Without the mark, the same new key merged by two writers at once is inserted twice.
        pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("collection", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field(TEXT, pa.string(), nullable=False),
        pa.field(VECTOR, pa.list_(pa.float32(), DIM), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk as the table keeps it; `text` holds the words it is searched by, `vector` has shape (384,) and unit length."""

    id: str
    document_id: str
    collection: str
    path: str
    kind: str
    text: str
    vector: NDArray[np.float32]


def _batch(rows: Collection[Row]) -> pa.Table:
    vectors = np.stack([row.vector for row in rows]).astype(np.float32, copy=False)
    if vectors.shape[1:] != (DIM,) or not np.isfinite(vectors).all():
        raise InvalidInput("vector", f"shape {vectors.shape[1:]}", f"{DIM} finite numbers")
    columns = [pa.array([getattr(row, field.name) for row in rows], pa.string()) for field in SCHEMA if field.name != VECTOR]
    return pa.Table.from_arrays([*columns, pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)], schema=SCHEMA)


def _match(words: str) -> Any:
    match: Any = MatchQuery  # its annotations hide the defaults from type checkers
    return match(words, TEXT)


class ChunkTable:
    """Opens the table at first use, anew in each process; threads may share it."""

    def __init__(self, directory: Path, *, index_above: int = INDEX_ABOVE) -> None:
        self._directory, self._index_above = directory, index_above
        self._opened: tuple[int, Any] | None = None
        self._lock = Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # LanceDB's threads do not survive a fork, nor may a lock that another thread held.
        self._opened, self._lock = None, Lock()

    def _table(self) -> Any:
        opened = self._opened
        if opened is None:
            with self._lock:
                opened = self._opened
                if opened is None:
                    self._directory.mkdir(parents=True, exist_ok=True)
                    # Interval 0: a reader sees what the writer's process has committed.
                    database = lancedb.connect(self._directory, read_consistency_interval=timedelta(0))
                    opened = self._opened = (os.getpid(), database.create_table(NAME, schema=SCHEMA, exist_ok=True))
        return opened[1]

    def upsert(self, rows: Sequence[Row]) -> None:
        """Insert rows, and replace those whose id is there; of several with one id the last counts.

        Raises InvalidInput for a vector that is not 384 finite numbers.
        """
        if rows:
            unique = {row.id: row for row in rows}
            self._table().merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(_batch(unique.values()))

    def put(self, chunks: Iterable[tuple[str, str, str, Chunk, bytes]]) -> None:
        """Insert or replace chunks, each with its id, its document's id, its collection and its vector (384 float32, little-endian)."""
        self.upsert(
            [
                Row(identity, document_id, collection, chunk.path, chunk.kind, chunk.searchable, np.frombuffer(vector, dtype="<f4"))
                for identity, document_id, collection, chunk, vector in chunks
            ]
        )

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; ids that are not there are no error."""
        if ids:
            self._table().delete(one_of("id", ids))

    def count(self, scope: Scope = EVERYTHING) -> int:
        """Return the number of rows."""
        return int(self._table().count_rows(scope.condition()))

    def ids(self, scope: Scope = EVERYTHING) -> set[str]:
        """Return the ids of all rows."""
        query = self._table().search().select(["id"])
        condition = scope.condition()
        found = (query.where(condition) if condition else query).limit(None).to_arrow()
        return set(found["id"].to_pylist())

    def _ranked(self, query: Any, measure: str, condition: str | None, limit: int) -> list[dict[str, Any]]:
        if condition:
            query = query.where(condition, prefilter=True)
        rows: list[dict[str, Any]] = query.select(["id", "document_id", "path", measure]).limit(limit).to_arrow().to_pylist()
        return rows

    def search(
        self,
        question: str,
        vector: NDArray[np.float32] | None,
        *,
        limit: int = 10,
        scope: Scope = EVERYTHING,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> list[Hit]:
        """Return the best chunks by full text and by vector, fused; `vector` None searches by full text alone.

        `vector` has shape (384,). Raises InvalidInput if `limit` is below 1 or the vector does not fit.
        """
        if limit < 1:
            raise InvalidInput("limit", limit, "1 or more")
        if vector is not None and vector.shape != (DIM,):
            raise InvalidInput("vector", f"shape {vector.shape}", f"shape ({DIM},)")
        if scope.is_empty:
            return []
        table, condition, depth = self._table(), scope.condition(), max(DEPTH, limit)
        found: dict[str, list[dict[str, Any]]] = {}
        if words := query_text(question):
            found[TEXT] = self._ranked(table.search(_match(words), query_type="fts"), "_score", condition, depth)
        if vector is not None:
            found[VECTOR] = self._ranked(table.search(vector, vector_column_name=VECTOR).distance_type("dot"), "_distance", condition, depth)
        rows = {row["id"]: row for ranked in found.values() for row in ranked}
        fused = fuse({ranker: [row["id"] for row in ranked] for ranker, ranked in found.items()}, weights)
        return [Hit(key, rows[key]["document_id"], rows[key]["path"], score, ranks) for key, score, ranks in fused[:limit]]

    def optimize(self) -> None:
        """Index new rows, compact small files and drop old versions; call it after a batch of writes."""
        table = self._table()
        rows = table.count_rows()
        if rows == 0:
            return
        indexed = {column for index in table.list_indices() for column in index.columns}
        if TEXT not in indexed:
            # The words come split already; the tokenizer must leave `ensure_connection` whole.
            table.create_index(TEXT, config=FTS(base_tokenizer="whitespace", language="English", stem=True, remove_stop_words=True))
        if VECTOR not in indexed and rows > self._index_above:
            table.create_index(VECTOR, config=IvfFlat(distance_type="dot"))
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
