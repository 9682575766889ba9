"""An installed package as an index, and the rank of the right file for each question, by each half of the search and by both."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.retrieval.questions import Question
from federation.engines import catalogue
from federation.tasks.retrieval import TOKENS
from federation.vectors.chunking import Chunk, chunk_file
from federation.vectors.index import Key, VectorIndex
from federation.vectors.scan import read_file, scan
from federation.vectors.wording import query_text

# A search shows at most so many; what is not among them counts as not found.
SHOWN = 50


class Way(StrEnum):
    """What a search may rank by."""

    VECTOR = "vector only"
    TEXT = "text only"
    FAST = "text and word vectors"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Indexed:
    """A package that can be searched; `embed_s` and `write_s` are what the model and the tables took."""

    index: VectorIndex
    files: int
    chunks: int
    embed_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the right file came among the files for a question, from 1, or None; `search_ms` is without the embedding of the question."""

    question: Question
    way: Way
    rank: int | None
    search_ms: float


@dataclass(frozen=True, slots=True)
class Score:
    """How often the right file came first, how often among the first three, and the mean of 1 / rank."""

    hit_1: float
    hit_3: float
    mrr: float


def index_package(name: str, folder: Path) -> Indexed:
    """Index an installed package in a folder, as the federation's tasks do it, but in this process."""
    root = Path(str(distribution(name).locate_file(name)))
    chunks: list[Chunk] = []
    for file in scan(root).files:
        found = chunk_file(f"{name}/{file.path}", read_file(root, file.path))
        chunks += found if isinstance(found, list) else []
    began = time.perf_counter()
    vectors = catalogue.embedding().embed([chunk.embeddable for chunk in chunks], truncate_at=TOKENS)
    embedded = time.perf_counter()
    index = VectorIndex(folder)
    keys = [Key(chunk.content_hash, chunk.path, name, chunk.path, chunk.kind) for chunk in chunks]
    texts = [chunk.searchable for chunk in chunks]
    index.put_words(keys, texts, catalogue.embedding("wordllama").embed(texts))
    index.put_meanings(keys, [vector.tobytes() for vector in vectors])
    index.optimize()
    return Indexed(index, len({chunk.path for chunk in chunks}), len(chunks), embedded - began, time.perf_counter() - embedded)


def ask(indexed: Mapping[str, Indexed], questions: Iterable[Question]) -> list[Answer]:
    """Ask each question of its package in each way."""
    return [_answer(indexed[question.package].index, question, way) for question in questions for way in Way]


def _answer(index: VectorIndex, question: Question, way: Way) -> Answer:
    meaning = catalogue.embedding().embed([question.text])[0] if way in {Way.VECTOR, Way.HYBRID} else None
    static = catalogue.embedding("wordllama").embed([query_text(question.text)])[0] if way in {Way.FAST, Way.HYBRID} else None
    began = time.perf_counter()
    hits = index.search("" if way is Way.VECTOR else question.text, static, meaning, limit=SHOWN)
    took_ms = (time.perf_counter() - began) * 1000
    paths = list(dict.fromkeys(hit.path for hit in hits))
    return Answer(question, way, paths.index(question.file) + 1 if question.file in paths else None, took_ms)


def score(answers: Iterable[Answer], way: Way) -> Score:
    """Return the score of one way over all its answers."""
    ranks: Sequence[int | None] = [answer.rank for answer in answers if answer.way is way]
    found = [rank for rank in ranks if rank is not None]
    return Score(
        hit_1=sum(rank == 1 for rank in found) / len(ranks),
        hit_3=sum(rank <= 3 for rank in found) / len(ranks),
        mrr=sum(1 / rank for rank in found) / len(ranks),
    )
