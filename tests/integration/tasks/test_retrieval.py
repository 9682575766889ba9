"""The writer of the vectors: what LanceDB holds is what PostgreSQL knows, whichever of two writers comes first."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.delivery.task import FederationTask
from federation.services import indexing
from federation.services.indexing import NewDocument
from federation.store import outbox
from federation.store.models.retrieval import Chunk
from federation.tasks import retrieval
from federation.transaction import Transactions
from federation.vectors import chunking
from federation.vectors.index import VectorIndex
from federation.vectors.table import DIM

ROOT = "/srv/code"


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(tmp_path)


@pytest.fixture
def write(transactions: Transactions, index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> Callable[[uuid.UUID], Any]:
    """Runs the writer of a run in this thread, on this test's database and folder."""

    @contextmanager
    def transaction(task: FederationTask) -> Iterator[Session]:
        with transactions.begin("ada", execution_id=task.execution_id) as session:
            yield session

    monkeypatch.setattr(FederationTask, "transaction", transaction)
    monkeypatch.setattr(retrieval, "_vectors", lambda: index)

    def run(run_id: uuid.UUID) -> Any:
        identity = outbox.fixed_id("write", run_id)
        return retrieval.write.apply(kwargs={"run_id": str(run_id)}, task_id=str(identity), throw=True).get()

    return run


@pytest.fixture
def embedded(transactions: Transactions) -> Callable[..., uuid.UUID]:
    """Scans a tree of these files, each with one chunk, and stages the vectors; returns the run."""

    def scan(**files: str) -> uuid.UUID:
        run_id = uuid.uuid4()
        documents = [NewDocument(path, text, 10, [chunking.Chunk(path, "function", text, 1, 2, text, text)]) for path, text in files.items()]
        with transactions.begin("ada") as session:
            view = indexing.record_scan(session, run_id, ROOT, paths=list(files), documents=documents, skipped=[])
        for number in range(view.batches):
            with transactions.begin("ada") as session:
                identity = outbox.fixed_id("embed", run_id, number)
                vectors = {chunk.id: b"\0" * 4 * DIM for chunk in indexing.batch(session, identity)}
                indexing.record_vectors(session, identity, node="aorus", model="m", vectors=vectors)
        return run_id

    return scan


def known(transactions: Transactions) -> set[str]:
    with transactions.begin("ada") as session:
        return {str(identity) for identity in session.scalars(select(Chunk.id))}


def test_vectors_of_what_is_gone_leave(transactions: Transactions, index: VectorIndex, write, embedded) -> None:
    assert write(embedded(a="one", b="two"))["written"] == 2
    assert index.chunks.values("id") == known(transactions)
    told = write(embedded(a="other"))
    assert (told["written"], told["deleted"], told["finished"]) == (1, 2, True)
    assert index.chunks.count() == 1
    assert index.chunks.values("id") == known(transactions)


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
    assert index.chunks.values("id") == known(transactions)
