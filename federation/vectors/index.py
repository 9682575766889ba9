"""What is searched: the words of each chunk with a static vector, at once, and beside it the better model's vectors where they are ready.

Of each document there is a row too, made of those of its chunks: a chunk whose whole file is about the question comes before its like.
"""

import fcntl
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.comparing import Asked, Vector, comparing
from federation.vectors.filters import EVERYTHING, Scope, one_of
from federation.vectors.ranking import Hit, Ranking, fused
from federation.vectors.table import INDEX_ABOVE, Row, Table
from federation.vectors.wording import query_text

STATIC_DIM: Final = 256
# Tables of versions before; what was in them is here again when its folder was indexed again.
_FORMER: Final = ("chunks", "files")
# Rows that each ranker may name; from 50 to 200 the answers were equally good.
DEPTH: Final = 100
# Documents that are ranked as a whole, and what that weighs beside the same ranking of chunks.
DOCUMENTS: Final = 50
WHOLE: Final = 0.25
# Documents whose chunks are read at once.
_AT_ONCE: Final = 256
# By whom a chunk was found.
WORDS, STATIC, MEANING = "words", "word vectors", "meaning"


def _weights(embedded: float) -> dict[str, float]:
    """Return what each ranker weighs: the more is embedded, the more does the model say, and the less do the vectors that stand in for it.

    Else the little that is embedded would come before all the rest.
    """
    return {WORDS: 1.0, STATIC: 1.0 - 0.5 * embedded, MEANING: 1.5 * embedded}


def _fused(ranked: Mapping[str, Ranking], whole: Mapping[str, Ranking], weights: Mapping[str, float], limit: int) -> list[Hit]:
    chunks = {ranker: (weights[ranker], ranked[ranker]) for ranker in weights if ranker in ranked}
    return fused(chunks, [(WHOLE * weights[ranker], whole[ranker]) for ranker in weights if ranker in whole], limit=limit)


class Key(NamedTuple):
    """What a chunk is told by, and filtered by."""

    id: str
    document_id: str
    collection: str
    path: str
    kind: str


def _whole(chunks: Sequence[Row]) -> Row:
    """Return the row of a document: the words of its chunks, and the mean of their vectors."""
    one, text = chunks[0], " ".join(chunk.text for chunk in chunks)
    summed: NDArray[np.float32] = np.stack([chunk.vector for chunk in chunks]).sum(axis=0)
    vector = np.asarray(summed / max(float(np.linalg.norm(summed)), 1e-9), dtype=np.float32)
    return Row(one.document_id, one.document_id, one.collection, one.path, "document", text, vector)


class VectorIndex:
    """The tables `words`, `documents` and `meanings` in one folder; threads may share it."""

    def __init__(self, directory: Path, *, index_above: int = INDEX_ABOVE) -> None:
        self._directory = directory
        self.words = Table(directory, "words", dim=STATIC_DIM, index_above=index_above)
        self.documents = Table(directory, "documents", dim=STATIC_DIM, index_above=index_above)
        self.meanings = Table(directory, "meanings", index_above=index_above, has_words=False)
        self._compare = comparing()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until nobody else writes, be it another thread or another process of this machine, and keep others waiting until the block ends."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._directory / ".writer").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def put_words(self, keys: Sequence[Key], texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Insert or replace the words of documents and their static vectors, shape (n, 256); only inside of `writing`.

        Of a document come all chunks, one after the other: the row of the whole is made of them.
        """
        rows = [Row(*key, text, vector) for key, text, vector in zip(keys, texts, vectors, strict=True)]
        self.words.upsert(rows, alone=True)
        self.documents.upsert([_whole(list(chunks)) for _, chunks in groupby(rows, attrgetter("document_id"))], alone=True)

    def put_meanings(self, keys: Sequence[Key], vectors: Sequence[bytes]) -> None:
        """Insert or replace the model's vectors of chunks, each 384 float32, little-endian; only inside of `writing`."""
        self.meanings.upsert([Row(*key, "", np.frombuffer(vector, dtype="<f4")) for key, vector in zip(keys, vectors, strict=True)], alone=True)

    def delete(self, ids: Collection[str]) -> None:
        """Remove chunks; ids that are not there are no error."""
        # First, because of a chunk that is gone nobody knows the document: so a kill in between leaves nothing.
        self._derive(self.words.values("document_id", one_of("id", ids)), without=ids)
        self.words.delete(ids)
        self.meanings.delete(ids)

    def _derive(self, document_ids: Collection[str], *, without: Collection[str] = ()) -> None:
        """Make the rows of documents anew from those of their chunks, some of which may be about to go."""
        left_out, ids = frozenset(without), sorted(document_ids)
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            chunks: dict[str, list[Row]] = {}
            for row in self.words.rows(one_of("document_id", some)):
                if row.id not in left_out:
                    chunks.setdefault(row.document_id, []).append(row)
            self.documents.delete(set(some) - chunks.keys())
            self.documents.upsert([_whole(rows) for rows in chunks.values()], alone=True)

    def optimize(self) -> None:
        """Index new rows, compact small files and drop old versions; call it after a batch of writes."""
        # Tables of before have no documents.
        self._derive(self.words.values("document_id") - self.documents.values("id"))
        for name in _FORMER:
            shutil.rmtree(self._directory / f"{name}.lance", ignore_errors=True)
        for table in (self.words, self.documents, self.meanings):
            table.optimize()

    def search(
        self,
        question: str,
        static: Vector | None = None,
        meaning: Vector | None = None,
        *,
        limit: int = 10,
        scope: Scope = EVERYTHING,
    ) -> list[Hit]:
        """Return the best chunks by words and by each vector of the question that is given, best first.

        The vectors have shapes (256,) and (384,) and unit length; an empty question is ranked by them alone. Each may be a function, which gets
        texts and returns their vectors while LanceDB ranks by words: `static` those of words, `meaning` those of questions as they were asked.
        Raises InvalidInput if `limit` is below 1 or a vector does not fit, and what these functions raise.
        """
        if limit < 1:
            raise InvalidInput("limit", limit, "1 or more")
        if scope.is_empty:
            return []
        depth, text = max(DEPTH, limit), query_text(question)
        # A document is of no kind.
        of_any_kind = replace(scope, kinds=None)
        words, documents, meanings = self.words.view(), self.documents.view(), self.meanings.view()
        # What LanceDB does, it does beside the rest.
        by_words = (words.by_words(text, scope, depth), documents.by_words(text, of_any_kind, DOCUMENTS)) if text else None
        asked: dict[str, Asked] = {}
        if static is not None:
            asked[STATIC] = Asked(text, static, [words, documents])
        # The model takes seconds to load; nobody waits for it where nothing is embedded yet.
        if meaning is not None and not (callable(meaning) and meanings.count(EVERYTHING) == 0):
            asked[MEANING] = Asked(question, meaning, [meanings])
        found = dict(zip(asked, self._compare(list(asked.values())), strict=True)) if asked else {}
        ranked: dict[str, Ranking] = {}
        whole: dict[str, Ranking] = {}
        embedded = 0.0
        if (vector := found.get(STATIC)) is not None and vector.vector.any():
            ranked[STATIC] = words.by_vector(vector.vector, scope, depth, vector.scores[0])
            whole[STATIC] = documents.by_vector(vector.vector, of_any_kind, DOCUMENTS, vector.scores[1])
        if (vector := found.get(MEANING)) is not None:
            ranked[MEANING] = meanings.by_vector(vector.vector, scope, depth, vector.scores[0])
            embedded = min(1.0, meanings.count(scope) / max(1, words.count(scope)))
        if by_words is not None:
            ranked[WORDS], whole[WORDS] = (ranking.result() for ranking in by_words)
        return _fused(ranked, whole, _weights(embedded), limit)
