"""The words that chunks are found by and the vectors of these, made on a thread of its own as soon as the chunks are cut; writes nothing."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final

from federation.engines import catalogue
from federation.services.retrieval import STATIC_ENGINE
from federation.vectors.chunking import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Chunks that are worded at once: the more, the fewer words are looked up twice.
AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True)
class Worded:
    """The words of some chunks, and their vectors, shape (n, 256)."""

    texts: Sequence[str]
    vectors: "NDArray[np.float32]"


def worded(chunks: Iterable[Chunk]) -> Worded:
    """Return the words of chunks in their order."""
    texts = [chunk.searchable for chunk in chunks]
    return Worded(texts, catalogue.embedding(STATIC_ENGINE).embed(texts))


class WordsAhead:
    """Words by the content hash of their chunk, of all chunks that were added; used in a `with` block, by one thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="words")
        self._added: list[Chunk] = []
        self._groups: list[Future[Worded]] = []
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> "WordsAhead":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Have these made soon."""
        self._added += chunks
        if len(self._added) >= AT_ONCE:
            self._begin()

    def _begin(self) -> None:
        self._places |= {chunk.content_hash: (len(self._groups), row) for row, chunk in enumerate(self._added)}
        self._groups.append(self._thread.submit(worded, self._added))
        self._added = []

    def __contains__(self, content_hash: str) -> bool:
        if self._added:
            self._begin()
        return content_hash in self._places

    def of(self, content_hash: str) -> "tuple[str, NDArray[np.float32]]":
        """Return the words of a chunk that was added, and their vector; waits for what is being made."""
        group, row = self._places[content_hash]
        made = self._groups[group].result()
        return made.texts[row], made.vectors[row]
