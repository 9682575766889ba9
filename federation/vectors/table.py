"""A table of LanceDB: words and vectors for ranking, never the text to show; one process writes at a time."""

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, Bitmap, IvfFlat
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors import held
from federation.vectors.asking import run
from federation.vectors.filters import EVERYTHING, Scope, one_of
from federation.vectors.held import Held
from federation.vectors.view import TEXT, VECTOR, View

DIM: Final = 384
COLLECTION: Final = "collection"
# Up to so many rows are held in memory, where all vectors are compared in two milliseconds; 384 numbers of each are 48 MiB. More get an index.
INDEX_ABOVE: Final = 131_072
# Rows whose vectors are read at once to be held.
HELD_AT_ONCE: Final = 8192
# Of indexes (that of the words of 35,000 chunks has 5 MiB) and of what is told of files.
INDEX_CACHE_BYTES: Final = 256 * 2**20
METADATA_CACHE_BYTES: Final = 64 * 2**20
# Readers that opened an old version must be able to finish.
KEEP_VERSIONS: Final = timedelta(hours=2)

COLUMNS: Final = ("id", "document_id", COLLECTION, "path", "kind", TEXT)


def _schema(dim: int) -> pa.Schema:
    # Without the mark, the same new key merged by two writers at once is inserted twice.
    key = {"lance-schema:unenforced-primary-key": "true"}
    words = [pa.field(name, pa.string(), nullable=False, metadata=key if name == "id" else None) for name in COLUMNS]
    return pa.schema([*words, pa.field(VECTOR, pa.list_(pa.float32(), dim), nullable=False)])


@dataclass(frozen=True, slots=True)
class Row:
    """What is ranked; `text` holds the words it is searched by, empty in a table without words; `vector` is as long as the table says."""

    id: str
    document_id: str
    collection: str
    path: str
    kind: str
    text: str
    vector: NDArray[np.float32]


def _batch(rows: Collection[Row], schema: pa.Schema, dim: int) -> pa.Table:
    vectors = np.stack([row.vector for row in rows]).astype(np.float32, copy=False)
    if vectors.shape[1:] != (dim,) or not np.isfinite(vectors).all():
        raise InvalidInput("vector", f"shape {vectors.shape[1:]}", f"{dim} finite numbers")
    columns = [pa.array([getattr(row, name) for row in rows], pa.string()) for name in COLUMNS]
    return pa.Table.from_arrays([*columns, pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)], schema=schema)


@cache
def _session() -> lancedb.Session:
    """Return what all tables of this process, and all who read and write them, remember of files: else each has its own, of up to gigabytes."""
    return lancedb.Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)


class _Seen(NamedTuple):
    """What lay in the folder of a table's versions, and the version that this is."""

    there: frozenset[str]
    version: int


class Table:
    """Opens the table at first use; threads may share it, and a forked child may use it if its parent used no LanceDB."""

    _user: ClassVar[int | None] = None  # the process that has used LanceDB first

    def __init__(self, directory: Path, name: str, *, dim: int = DIM, index_above: int = INDEX_ABOVE, has_words: bool = True) -> None:
        self._directory, self._name, self._index_above, self._has_words = directory, name, index_above, has_words
        self.dim, self._schema = dim, _schema(dim)
        # For writing, and for rankings that are asked for together.
        self._opened: Any = None
        self._reading: Any = None
        self._seen = _Seen(frozenset(), 0)
        self._lock = threading.Lock()
        self._held: Held | None = None
        self._holding = threading.Lock()

    def _table(self) -> Any:
        if Table._user not in (None, os.getpid()):
            # LanceDB's threads do not survive a fork; of children that went on with it, one in eight waited for ever.
            raise RuntimeError("LanceDB was used before the fork: use it only in the child, or start the child by spawn")
        # Before the lock, so that no child waits for one that a thread of its parent held at the fork.
        Table._user = os.getpid()
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                    # Interval 0: a reader sees what the writer's process has committed.
                    database = lancedb.connect(self._directory, read_consistency_interval=timedelta(0), session=_session())
                    self._opened = database.create_table(self._name, schema=self._schema, exist_ok=True)
        return self._opened

    def upsert(self, rows: Sequence[Row], *, alone: bool = False) -> None:
        """Insert rows, and replace those whose id is there; of several with one id the last counts.

        `alone`: nobody else writes meanwhile, which makes new rows ten times as cheap.

        Raises InvalidInput for a vector that is not as many finite numbers as the table's have.
        """
        if rows:
            unique = {row.id: row for row in rows}
            batch = _batch(unique.values(), self._schema, self.dim)
            if alone and not self._table().count_rows(one_of("id", unique)):
                self._table().add(batch)
            else:
                self._table().merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; ids that are not there are no error."""
        if ids:
            self._table().delete(one_of("id", ids))

    def count(self, scope: Scope = EVERYTHING) -> int:
        """Return the number of rows."""
        return self.view().count(scope)

    def view(self) -> View:
        """Return it as it is now, to be ranked."""
        reader = self._reader()
        # Looked at before the reader does, so that what is committed in between is looked at once more.
        there = frozenset(os.listdir(self._directory / f"{self._name}.lance" / "_versions"))
        if there != self._seen.there:
            run(reader.checkout_latest())
            self._seen = _Seen(there, int(run(reader.version())))
        return View(self._rows(self._seen.version), reader, self.dim)

    def _rows(self, version: int) -> Held | None:
        """Return what is there by now, as one moment has it, read anew as far as it has changed; None if it is too much to be held."""
        if (found := self._held) is not None and found.version >= version:
            return found
        # Nothing else may keep it while another one is read.
        del found
        # Of those who find it changed one reads it.
        with self._holding:
            if self._held is None or self._held.version < version:
                # If another version comes meanwhile, it is read once more.
                self._hold(version, self._table().count_rows())
            return self._held

    def _hold(self, version: int, count: int) -> None:
        """Hold what is there by now, `count` rows: to what is held come those behind it, unless rows are gone or have moved."""
        table = self._table()
        if self._held is not None and (behind := self._held.behind()) and len(self._held) + table.count_rows(behind) == count <= self._index_above:
            self._held = self._held.joined(self._read_held(version, behind))
        else:
            # Not both in memory.
            self._held = None
            self._held = self._read_held(version, None) if count <= self._index_above else None

    def _read_held(self, version: int, condition: str | None) -> Held:
        return Held.of(version, self._query([*held.COLUMNS, VECTOR], condition).with_row_id(True).to_batches(HELD_AT_ONCE), self.dim)

    def values(self, column: str, condition: str | None = None) -> set[str]:
        """Return what occurs in a column of texts."""
        return set(self._read([column], condition)[column].to_pylist())

    def rows(self, condition: str) -> Iterator[Row]:
        """Yield the rows of a condition of LanceDB's filter language."""
        found = self._read([*COLUMNS, VECTOR], condition)
        vectors = found[VECTOR].combine_chunks().flatten().to_numpy().reshape(-1, self.dim)
        for values, vector in zip(found.select(COLUMNS).to_pylist(), vectors, strict=True):
            yield Row(**values, vector=vector)

    def _read(self, columns: Sequence[str], condition: str | None) -> pa.Table:
        return self._query(columns, condition).to_arrow()

    def _query(self, columns: Sequence[str], condition: str | None) -> Any:
        query = self._table().search().select(list(columns))
        return (query.where(condition) if condition else query).limit(None)

    def _reader(self) -> Any:
        if self._reading is None:
            self._table()
            # With an interval of 0 LanceDB looks for a new version twice in each query; here each view looks once.
            database = run(lancedb.connect_async(self._directory, read_consistency_interval=None, session=_session()))
            self._reading = run(database.open_table(self._name))
        return self._reading

    def optimize(self) -> None:
        """Index new rows, compact small files and drop old versions; call it after a batch of writes."""
        table = self._table()
        rows = table.count_rows()
        # Of an empty table former versions go all the same: what was deleted last is in them.
        indexed = {column for index in table.list_indices() for column in index.columns} if rows else {TEXT, COLLECTION}
        if TEXT not in indexed and self._has_words:
            # The words come split already; the tokenizer must leave `ensure_connection` whole.
            table.create_index(TEXT, config=FTS(base_tokenizer="whitespace", language="English", stem=True, remove_stop_words=True))
        if COLLECTION not in indexed:
            # Each search says where to look; without an index that takes as long again as the search, with it nothing.
            table.create_index(COLLECTION, config=Bitmap())
        if VECTOR not in indexed and rows > self._index_above:
            table.create_index(VECTOR, config=IvfFlat(distance_type="dot"))
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
