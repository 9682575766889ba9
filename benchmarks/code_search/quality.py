"""How often the definition that a docstring was taken out of is found, by each ranker and by all, and what a search takes; starts no server."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.code_search.corpus import Question
from benchmarks.intervals import percentile
from federation.engines import catalogue
from federation.services.retrieval import EMBEDDING_ENGINE, STATIC_ENGINE
from federation.tasks.retrieval import TOKENS, meanings, static_vectors
from federation.vectors.chunking import Chunk
from federation.vectors.filters import Scope
from federation.vectors.index import Key, VectorIndex
from federation.vectors.table import DIM
from federation.vectors.wording import query_text

# Of one index among others, as each search asks.
_SCOPE = Scope(collections=["library"])
_SHOWN = 10
_EMBEDDED_AT_ONCE = 1024
_WRITTEN_AT_ONCE = 8192
_SEED = 7


@dataclass(frozen=True, slots=True)
class Score:
    """How often the right definition came first and among ten, and the mean of 1 / rank, 0 beyond ten."""

    questions: int
    recall_1: float
    recall_10: float
    mrr: float


@dataclass(slots=True)
class Took:
    """Seconds of each part of making a tree searchable in this process."""

    words_s: float = 0.0
    static_s: float = 0.0
    write_s: float = 0.0
    full_text_s: float = 0.0


def build(chunks: Sequence[Chunk], folder: Path, tell: Callable[[str], None]) -> tuple[VectorIndex, Took]:
    """Index chunks as the tasks do, but in this process."""
    index, took, clock = VectorIndex(folder), Took(), time.perf_counter
    keys = _keys(chunks, 0)
    with index.writing():
        for some in _whole_files(chunks):
            began = clock()
            texts = [chunk.searchable for chunk in chunks[some]]
            worded = clock()
            vectors = catalogue.embedding(STATIC_ENGINE).embed(texts)
            embedded = clock()
            index.put_words(keys[some], texts, vectors)
            took.words_s += worded - began
            took.static_s += embedded - worded
            took.write_s += clock() - embedded
        began = clock()
        index.words.optimize()
        index.documents.optimize()
        took.full_text_s = clock() - began
    tell(f"{len(chunks)} chunks are found by their words")
    return index, took


def _whole_files(chunks: Sequence[Chunk]) -> Iterator[slice]:
    """Yield where chunks are that are written at once, of each file all."""
    start = end = 0
    for _, of_a_file in groupby(chunks, attrgetter("path")):
        end += len(list(of_a_file))
        if end - start >= _WRITTEN_AT_ONCE or end == len(chunks):
            yield slice(start, end)
            start = end


def embed(index: VectorIndex, chunks: Sequence[Chunk], tell: Callable[[str], None]) -> float:
    """Put the model's vectors of all chunks into an index; return the seconds that the model took."""
    engine, took_s = catalogue.embedding(EMBEDDING_ENGINE), 0.0
    with index.writing():
        for start in range(0, len(chunks), _EMBEDDED_AT_ONCE):
            some = chunks[start : start + _EMBEDDED_AT_ONCE]
            began = time.perf_counter()
            vectors = engine.embed([chunk.embeddable for chunk in some], truncate_at=TOKENS)
            took_s += time.perf_counter() - began
            index.put_meanings(_keys(some, start), [vector.astype("<f4").tobytes() for vector in vectors])
            tell(f"embedded {start + len(some)} of {len(chunks)} chunks")
        index.meanings.optimize()
    return took_s


def stand_in(index: VectorIndex, chunks: Sequence[Chunk]) -> None:
    """Put random vectors in the place of the model's, for what a search takes: that depends on how many there are."""
    random = np.random.default_rng(_SEED)
    with index.writing():
        for start in range(0, len(chunks), _WRITTEN_AT_ONCE):
            keys = _keys(chunks[start : start + _WRITTEN_AT_ONCE], start)
            vectors = random.standard_normal((len(keys), DIM)).astype("<f4")
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            index.put_meanings(keys, [vector.tobytes() for vector in vectors])
        index.meanings.optimize()


def _keys(chunks: Sequence[Chunk], start: int) -> list[Key]:
    return [Key(str(place), chunk.path, "library", chunk.path, chunk.kind) for place, chunk in enumerate(chunks, start)]


def rates(texts: Sequence[str], *, count: int = 256, rounds: int = 3) -> dict[str, float]:
    """Return texts a second of our engine and of sentence-transformers' own `encode`, with one thread and with one for each core.

    In turns, with the same texts and window.
    """
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    from federation.engines import minilm  # noqa: PLC0415
    from federation.engines.sentence_encoder import device_for  # noqa: PLC0415

    some = [texts[place] for place in range(0, len(texts), max(1, len(texts) // count))][:count]
    engine, device = catalogue.embedding(EMBEDDING_ENGINE), device_for("cpu")
    bare = SentenceTransformer(str(minilm.folder()), device="cpu", local_files_only=True, model_kwargs={"dtype": device.dtype})
    bare.max_seq_length = TOKENS

    def encode(threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            bare.encode(some, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        finally:
            torch.set_num_threads(1)

    ways: dict[str, Callable[[], object]] = {
        "ours_per_s": lambda: engine.embed(some, truncate_at=TOKENS),
        "bare_per_s": lambda: encode(1),
        "bare_all_cores_per_s": lambda: encode(os.cpu_count() or 1),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    # The fastest of each: others use the machine too.
    return {name: len(some) / min(times) for name, times in took.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its two vectors."""

    question: Question
    static: NDArray[np.float32]
    meaning: NDArray[np.float32]


def prepared(questions: Sequence[Question]) -> list[Asked]:
    """Return the questions with their vectors."""
    texts = [each.about.question for each in questions]
    static = catalogue.embedding(STATIC_ENGINE).embed([query_text(text) for text in texts])
    meaning = catalogue.embedding(EMBEDDING_ENGINE).embed(texts, truncate_at=256)
    return [Asked(*each) for each in zip(questions, static, meaning, strict=True)]


FULL_TEXT, STATIC, FAST, MODEL, FUSED = "full text", "static", "fast tier", "MiniLM", "fused"
AT_ONCE_FOUND = (FULL_TEXT, STATIC, FAST)
WAYS: dict[str, Callable[[VectorIndex, Asked], list[Any]]] = {
    FULL_TEXT: lambda index, asked: _search(index, asked.question.about.question),
    STATIC: lambda index, asked: _search(index, "", asked.static),
    MODEL: lambda index, asked: _search(index, "", None, asked.meaning),
    FAST: lambda index, asked: _search(index, asked.question.about.question, asked.static),
    FUSED: lambda index, asked: _search(index, asked.question.about.question, asked.static, asked.meaning),
}


def _search(index: VectorIndex, *asked: Any) -> list[Any]:
    return index.search(*asked, limit=50, scope=_SCOPE)


def scores(index: VectorIndex, chunks: Sequence[Chunk], asked: Sequence[Asked], ways: Sequence[str] = tuple(WAYS)) -> dict[str, dict[str, Any]]:
    """Return the score of each of these ways, over all questions and over those that share no part of a name with what they are about."""
    found: dict[str, dict[str, Any]] = {}
    for name in ways:
        ranks = [_rank(WAYS[name](index, each), chunks, each.question) for each in asked]
        unnamed = [rank for rank, each in zip(ranks, asked, strict=True) if not each.question.about.is_named_in_its_question]
        found[name] = {"all": asdict(_score(ranks)), "without a part of the name": asdict(_score(unnamed))}
    return found


def _rank(hits: Sequence[Any], chunks: Sequence[Chunk], question: Question) -> int | None:
    """Return which definition in the list is the right one, as a search shows them: each once."""
    seen: set[tuple[str, str | int]] = set()
    for hit in hits:
        chunk = chunks[int(hit.id)]
        seen.add((chunk.path, chunk.title or chunk.start_line))
        if int(hit.id) in question.answers:
            return len(seen)
    return None


def _score(ranks: Sequence[int | None]) -> Score:
    near = [rank for rank in ranks if rank is not None and rank <= _SHOWN]
    count = max(1, len(ranks))
    return Score(len(ranks), sum(rank == 1 for rank in near) / count, len(near) / count, sum(1 / rank for rank in near) / count)


def latencies(index: VectorIndex, asked: Sequence[Asked], clients: int) -> dict[str, float]:
    """Return what a search takes in milliseconds, its question's vectors included, at so many clients of this process."""

    def once(each: Asked) -> float:
        began = time.perf_counter()
        _search(index, each.question.about.question, static_vectors, meanings)
        return (time.perf_counter() - began) * 1000

    for each in asked[:10]:
        once(each)
    with ThreadPoolExecutor(clients) as pool:
        took = sorted(pool.map(once, asked))
    return {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99)}
