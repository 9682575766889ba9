"""What is searched: a row for each chunk, and one for each file, made of its chunks; one process writes at a time."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.chunking import Chunk
from federation.vectors.filters import EVERYTHING, Scope, one_of
from federation.vectors.ranking import Hit, Ranking, best_places
from federation.vectors.table import DIM, INDEX_ABOVE, TEXT, VECTOR, Row, Table
from federation.vectors.wording import query_text

# Rows that each ranker may name; from 20 to 200 the answers were equally good.
DEPTH: Final = 50
# Files that are made anew at once: their chunks have to fit into memory.
_AT_ONCE: Final = 256


def _file(chunks: Sequence[Row]) -> Row:
    """Return the row of a file: all words of its chunks, and the mean of their vectors, whose likeness is the mean of theirs."""
    first = chunks[0]
    vector = np.mean([chunk.vector for chunk in chunks], axis=0)
    return Row(first.document_id, first.document_id, first.collection, first.path, "file", " ".join(chunk.text for chunk in chunks), vector)


def _rankings(table: Table, words: str, vector: NDArray[np.float32] | None, scope: Scope, depth: int) -> dict[str, Ranking]:
    by_words = {TEXT: table.by_words(words, scope, depth)} if words else {}
    by_vector = {VECTOR: table.by_vector(vector, scope, depth)} if vector is not None else {}
    return by_words | by_vector


class VectorIndex:
    """The tables `chunks` and `files` in one folder; threads may share it."""

    def __init__(self, directory: Path, *, index_above: int = INDEX_ABOVE) -> None:
        self.chunks = Table(directory, "chunks", index_above=index_above)
        self.files = Table(directory, "files", index_above=index_above)

    def put(self, chunks: Iterable[tuple[str, str, str, Chunk, bytes]]) -> None:
        """Insert or replace chunks, each with its id, its document's id, its collection and its vector (384 float32, little-endian)."""
        self.upsert(
            [
                Row(identity, document_id, collection, chunk.path, chunk.kind, chunk.searchable, np.frombuffer(vector, dtype="<f4"))
                for identity, document_id, collection, chunk, vector in chunks
            ]
        )

    def upsert(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows of chunks. Raises InvalidInput for a vector that is not 384 finite numbers."""
        self.chunks.upsert(rows)
        self._make_files({row.document_id for row in rows})

    def delete(self, ids: Collection[str]) -> None:
        """Remove chunks; ids that are not there are no error."""
        if ids:
            # Before the chunks go, because a writer that is killed between the two finds by them what it has to make anew.
            self._make_files(self.chunks.values("document_id", one_of("id", ids)), without=ids)
            self.chunks.delete(ids)

    def _make_files(self, document_ids: Collection[str], *, without: Collection[str] = ()) -> None:
        """Make the rows of files anew from their chunks; a file that has none is removed."""
        waiting, gone = sorted(document_ids), frozenset(without)
        for start in range(0, len(waiting), _AT_ONCE):
            files: dict[str, list[Row]] = {document_id: [] for document_id in waiting[start : start + _AT_ONCE]}
            for row in self.chunks.rows(Scope(document_ids=files.keys())):
                if row.id not in gone:
                    files[row.document_id].append(row)
            self.files.upsert([_file(chunks) for chunks in files.values() if chunks])
            self.files.delete([document_id for document_id, chunks in files.items() if not chunks])

    def optimize(self) -> None:
        """Index new rows, compact small files and drop old versions; call it after a batch of writes."""
        # An index from before there were rows of files, or one whose writer was killed, gets them here.
        self._make_files(self.chunks.values("document_id") - self.files.values("id"))
        self.chunks.optimize()
        self.files.optimize()

    def search(self, question: str, vector: NDArray[np.float32] | None, *, limit: int = 10, scope: Scope = EVERYTHING) -> list[Hit]:
        """Return the best files by full text and by vector, each with its best chunk; `vector` None searches by full text alone.

        `vector` has shape (384,) and unit length. Raises InvalidInput if `limit` is below 1 or the vector does not fit.
        """
        if limit < 1:
            raise InvalidInput("limit", limit, "1 or more")
        if vector is not None and vector.shape != (DIM,):
            raise InvalidInput("vector", f"shape {vector.shape}", f"shape ({DIM},)")
        if scope.is_empty:
            return []
        depth, words = max(DEPTH, limit), query_text(question)
        # A limit on the kind is about chunks.
        chunks = _rankings(self.chunks, words, vector, scope, depth)
        files = _rankings(self.files, words, vector, replace(scope, kinds=None), depth)
        return best_places(chunks, files)[:limit]
