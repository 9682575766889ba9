"""The writer of the vectors: what LanceDB holds is what PostgreSQL knows, whichever of two comes first; and what a search answers to whom."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.delivery.task import FederationTask
from federation.services import indexing
from federation.services.indexed_documents import NewDocument
from federation.store.fixed_ids import fixed_id
from federation.store.models.retrieval import Chunk
from federation.tasks import retrieval
from federation.tasks.wording import WordsAhead
from federation.transaction import Transactions
from federation.vectors import chunking
from federation.vectors.index import STATIC_DIM, Key, VectorIndex
from federation.vectors.table import DIM

ROOT = "/srv/code"
ASKER = ContextVar("asker", default="ada")


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(tmp_path)


@pytest.fixture
def write(transactions: Transactions, index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> Callable[[uuid.UUID], Any]:
    """Runs the writer of a run in this thread, on this test's database and folder."""

    @contextmanager
    def transaction(task: FederationTask) -> Iterator[Session]:
        with transactions.begin(ASKER.get(), execution_id=task.execution_id) as session:
            yield session

    monkeypatch.setattr(FederationTask, "transaction", transaction)
    monkeypatch.setattr(retrieval, "_vectors", lambda: index)

    def run(run_id: uuid.UUID) -> Any:
        identity = fixed_id("write", run_id, 0)
        return retrieval.write.apply(kwargs={"run_id": str(run_id)}, task_id=str(identity), throw=True).get()

    return run


@pytest.fixture
def embedded(transactions: Transactions, index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> Callable[..., uuid.UUID]:
    """Scans a tree of these files, each with one chunk, makes it searchable and stages the vectors; returns the run."""
    monkeypatch.setattr(retrieval, "_vectors", lambda: index)
    monkeypatch.setattr(retrieval.catalogue, "embedding", lambda name: Words(STATIC_DIM if name == retrieval.retrieval.STATIC_ENGINE else DIM))

    def as_task(run_id: uuid.UUID) -> Any:
        return SimpleNamespace(execution_id=run_id, transaction=lambda: transactions.begin(ASKER.get()), tell_progress=lambda *_: None)

    def scan(*, visibility: str | None = None, **files: str) -> uuid.UUID:
        run_id = uuid.uuid4()
        documents = [NewDocument(path, text, 10, [chunking.Chunk(path, "function", text, 1, 2, text, text)]) for path, text in files.items()]
        with transactions.begin(ASKER.get()) as session:
            view = indexing.record_scan(session, run_id, ROOT, paths=list(files), documents=documents, skipped=[], visibility=visibility)
        with WordsAhead() as ahead:
            retrieval._make_searchable(as_task(run_id), ahead)
        for number in range(view.batches):
            with transactions.begin(ASKER.get()) as session:
                identity = fixed_id("embed", run_id, number)
                vectors = {chunk.id: _vector(chunk.text) for chunk in indexing.batch(session, identity)}
                indexing.record_vectors(session, identity, node="aorus", model="m", vectors=vectors)
        return run_id

    return scan


def _vector(text: str, dim: int = DIM) -> bytes:
    """Return a vector that says only whether a text is about otters."""
    vector = numpy.zeros(dim, dtype="<f4")
    vector[0 if "otter" in text else 1] = 1
    return vector.tobytes()


class Words:
    """An embedding engine at the outermost edge."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def embed(self, texts: list[str]) -> Any:
        return numpy.stack([numpy.frombuffer(_vector(text, self.dim), dtype="<f4") for text in texts])


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    token = ASKER.set(name)
    try:
        yield
    finally:
        ASKER.reset(token)


@pytest.fixture
def ask(write, embedded) -> Callable[..., list[tuple[str, float]]]:
    """Searches in the name of somebody; returns paths and scores."""

    def run(who: str, *, limit: int = 5, **narrower: str) -> list[tuple[str, float]]:
        asked = {"query": "otters", "limit": limit, **narrower}
        with acting_as(who):
            hits = retrieval.search.apply(kwargs=asked, task_id=str(uuid.uuid4()), throw=True).get()
        return [(hit["path"], hit["score"]) for hit in hits]

    return run


def known(transactions: Transactions) -> set[str]:
    with transactions.begin("ada") as session:
        return {str(identity) for identity in session.scalars(select(Chunk.id))}


def test_vectors_of_what_is_gone_leave(transactions: Transactions, index: VectorIndex, write, embedded) -> None:
    assert write(embedded(a="one", b="two"))["written"] == 2
    assert index.words.values("id") == index.meanings.values("id") == known(transactions)
    run = embedded(a="other")
    # At once, and before anything is embedded.
    assert index.words.values("id") == known(transactions)
    assert index.meanings.count() == 0
    told = write(run)
    assert (told["written"], told["finished"]) == (1, True)
    assert index.words.values("id") == index.meanings.values("id") == known(transactions)
    assert index.words.count() == 1


def test_a_writer_that_was_held_up_brings_nothing_back(transactions: Transactions, index: VectorIndex, write, embedded, monkeypatch) -> None:
    first = embedded(a="one", b="two")
    held, go = Event(), Event()

    def loading() -> VectorIndex:
        # As at a node's first write, while LanceDB is loaded.
        monkeypatch.setattr(retrieval, "_vectors", lambda: index)
        held.set()
        assert go.wait(60)
        return index

    monkeypatch.setattr(retrieval, "_vectors", loading)
    slow = Thread(target=write, args=(first,))
    slow.start()
    assert held.wait(60)
    try:
        write(embedded(a="other"))
    finally:
        go.set()
        slow.join(60)
    assert index.meanings.values("id") == index.words.values("id") == known(transactions)


# Of one length: how long texts are on the average is counted over all of them.
PUBLIC = {f"public_{number}": f"a word about otters by writer {number}" for number in range(5)}


def test_what_one_may_not_see_neither_shortens_the_answer_nor_shows_in_its_scores(write, embedded, ask) -> None:
    """bob keeps many files to himself that answer better than all that eve may see."""
    write(embedded(**PUBLIC))
    before = ask("eve")
    assert len(before) == 5
    with acting_as("bob"):
        write(embedded(visibility="nobody", **{f"kept_{number}": "otters" for number in range(2 * retrieval.RANKED)}))
    assert ask("eve") == before
    assert ask("eve", root=ROOT) == before
    # As vectors all are alike.
    assert "kept" in {path.partition("_")[0] for path, _ in ask("bob")}
    # An answer that is not full has all that there is.
    assert len(ask("eve", limit=50)) == 5
    assert len(ask("bob", limit=50)) == 50


def test_what_is_not_recorded_any_more_does_not_shorten_the_answer(write, embedded, ask, index: VectorIndex) -> None:
    """As it is while a withdrawn index still has its vectors, or after a writer was killed."""
    write(embedded(**{f"badgers_{number}": f"badgers {number}" for number in range(5)}))
    left = [Key(str(uuid.uuid4()), str(uuid.uuid4()), ROOT, f"left_{number}", "function") for number in range(3 * retrieval.RANKED)]
    index.put_words(left, ["otters"] * len(left), Words(STATIC_DIM).embed(["otters"] * len(left)))
    index.put_meanings(left, [_vector("otters")] * len(left))
    assert {path.partition("_")[0] for path, _ in ask("eve")} == {"badgers"}
    assert len(ask("eve")) == 5


def test_a_folder_that_is_withdrawn_is_found_no_more_and_leaves_no_vectors(transactions: Transactions, write, embedded, ask, index) -> None:
    write(embedded(**PUBLIC))
    run = embedded(visibility="nobody", **PUBLIC)
    assert ask("eve") == []
    write(run)
    assert ask("eve") == []
    assert {path for path, _ in ask("ada")} == PUBLIC.keys()
    assert index.meanings.values("id") == index.words.values("id") == known(transactions)


def test_a_tree_is_found_by_its_words_before_anything_is_embedded(embedded, ask, write) -> None:
    run = embedded(a="a word about otters", b="a word about badgers")
    assert [path for path, _ in ask("eve")] == ["a", "b"]
    write(run)
    assert [path for path, _ in ask("eve")] == ["a", "b"]


def test_a_search_is_narrowed_to_paths_languages_kinds_and_conversations(embedded, ask, write) -> None:
    write(embedded(**{"src/a.py": "a word about otters", "src/a.rs": "more about otters", "docs/a.md": "otters at large"}))
    assert {path for path, _ in ask("eve", path="src/")} == {"src/a.py", "src/a.rs"}
    assert {path for path, _ in ask("eve", language="python")} == {"src/a.py"}
    assert {path for path, _ in ask("eve", path="src/", language="markdown")} == set()
    assert {path for path, _ in ask("eve", kind="function")} == {"src/a.py", "src/a.rs", "docs/a.md"}
    assert ask("eve", kind="class") == []
    # It is for all, and not for the members of one.
    assert ask("eve", conversation_id="project-123") == []


def test_an_answer_says_which_words_stand_in_it_and_where(embedded, write) -> None:
    write(embedded(**{"a.py": "feeds\nthe otters"}))
    asked = {"query": "who feeds an otter?", "limit": 1}
    [hit] = retrieval.search.apply(kwargs=asked, task_id=str(uuid.uuid4()), throw=True).get()
    assert (hit["words"], hit["line"], hit["start_line"], hit["matched_by"]) == (["feeds", "otter"], 1, 1, ["meaning", "word vectors", "words"])
