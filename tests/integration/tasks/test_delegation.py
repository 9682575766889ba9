"""A node's task that looks something up: what is found goes into its prompt, and into its result, once, whatever is delivered again."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.delivery.task import FederationTask
from federation.engines.contracts import Asked, Completion, Meanwhile
from federation.engines.routing import Router, Source
from federation.placement.node_file import NodeFile
from federation.services import indexing, task_ends, tasks
from federation.services.indexed_documents import NewDocument
from federation.store.fixed_ids import fixed_id
from federation.store.models.executions import Execution
from federation.store.models.tasks import AgentTask
from federation.tasks import delegation, inference, retrieval
from federation.tasks.wording import WordsAhead
from federation.transaction import Transactions
from federation.vectors import chunking
from federation.vectors.index import STATIC_DIM, VectorIndex
from federation.vectors.table import DIM

ROOT = "/srv/code"
FILES = {"cache.py": "def restart_cache(): stop the cache, drop its keys, start it", "mail.py": "def send_mail(): hello"}


class Words:
    """An engine at the outermost edge: a vector that says only which file a text is about, and an answer that is what it was asked."""

    name, model = "words", "words"

    def __init__(self, dim: int = DIM) -> None:
        self.dim = dim
        self.asked: list[str] = []

    def embed(self, texts: list[str]) -> Any:
        import numpy

        vectors = numpy.zeros((len(texts), self.dim), dtype="<f4")
        for row, text in enumerate(texts):
            vectors[row, 0 if "cache" in text else 1] = 1
        return vectors

    def digest(self) -> str:
        return "0" * 64

    def complete(self, asked: Asked, *, meanwhile: Meanwhile, **options: Any) -> Completion:
        meanwhile()
        self.asked.append("\n\n".join(message.content for message in asked.messages))
        return Completion(text="Stop it first.", finish_reason="stop", prompt_tokens=10, completion_tokens=3, seconds=0.1)


@pytest.fixture
def visibility() -> str | None:
    """For whom the files are indexed; a test may say another."""
    return None


@pytest.fixture
def words(transactions: Transactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visibility: str | None) -> Words:
    """The engine, with the files indexed and this thread as a worker."""
    engine, index = Words(), VectorIndex(tmp_path)

    @contextmanager
    def transaction(task: FederationTask, *, actor: str | None = None) -> Iterator[Session]:
        with transactions.begin(actor or "ada", execution_id=task.execution_id) as session:
            yield session

    monkeypatch.setattr(FederationTask, "transaction", transaction)
    monkeypatch.setattr(FederationTask, "node", "aorus")
    monkeypatch.setattr(retrieval, "_vectors", lambda: index)
    monkeypatch.setattr(retrieval.catalogue, "embedding", lambda name: engine if name == retrieval.retrieval.EMBEDDING_ENGINE else Words(STATIC_DIM))
    router = Router([Source("words", "words", "words", lambda: engine)])
    monkeypatch.setattr(inference.models, "router", lambda _: router)
    monkeypatch.setattr(delegation, "node_file", lambda name: NodeFile(name=name, role="developer"))
    run_id = uuid.uuid4()
    documents = [NewDocument(path, text, 10, [chunking.Chunk(path, "function", path, 7, 9, text, text)]) for path, text in FILES.items()]
    with transactions.begin("ada") as session:
        view = indexing.record_scan(session, run_id, ROOT, paths=list(FILES), documents=documents, skipped=[], visibility=visibility)
    with WordsAhead() as ahead:
        as_task = SimpleNamespace(execution_id=run_id, transaction=lambda: transactions.begin("ada"), tell_progress=lambda *_: None)
        retrieval._make_searchable(as_task, ahead)
    with transactions.begin("ada") as session:
        for number in range(view.batches):
            identity = fixed_id("embed", run_id, number)
            vectors = {chunk.id: engine.embed([chunk.text])[0].tobytes() for chunk in indexing.batch(session, identity)}
            indexing.record_vectors(session, identity, node="aorus", model="words", vectors=vectors)
    retrieval.write.apply(kwargs={"run_id": str(run_id)}, task_id=str(fixed_id("write", run_id, view.batches)), throw=True)
    return engine


@pytest.fixture
def deliver(transactions: Transactions) -> Callable[[str], Any]:
    """Does the execution of this name as a worker would, and returns what it returned."""

    def run(name: str) -> Any:
        with transactions.begin("test:hand") as session:
            execution = session.scalars(select(Execution).where(Execution.task_name == name)).one()
        task = {tasks.LOOK_UP: delegation.look_up, tasks.RUN_ON_NODE: delegation.run}[name]
        return task.apply(kwargs=execution.kwargs, task_id=str(execution.id), throw=True).get()

    return run


def test_what_is_found_is_read_by_the_model_and_named_in_the_result(transactions: Transactions, words: Words, deliver: Any) -> None:
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "How do I restart the cache?", executor="node", look_up=True)
    for _ in range(2):
        found = deliver(tasks.LOOK_UP)
    assert found["sources"][0]["path"] == "cache.py"
    for _ in range(2):
        result = deliver(tasks.RUN_ON_NODE)
    assert len(words.asked) == 1, "delivered again it is not asked again"
    [asked] = words.asked
    assert asked.startswith("You are the Developer")
    assert "How do I restart the cache?\n\nFrom cache.py, line 7:\ndef restart_cache()" in asked
    assert (result["text"], result["sources"]) == ("Stop it first.", found["sources"])
    assert found["sources"][0] == {"root": ROOT, "path": "cache.py", "start_line": 7, "end_line": 9, "title": "cache.py"}
    with transactions.begin("ada") as session:
        done = session.get_one(AgentTask, task.id)
        assert (done.status, done.assigned_to, (done.result or {})["role"]) == ("completed", "aorus", "developer")


def test_what_was_cancelled_meanwhile_is_neither_looked_up_nor_done(transactions: Transactions, words: Words, deliver: Any) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "How do I restart the cache?", executor="node", look_up=True, slug="t")
        task_ends.cancel(session, "t")
    assert deliver(tasks.LOOK_UP) == {"cancelled_by": "ada", "reason": ""}
    with transactions.begin("test:hand") as session:
        assert session.scalars(select(Execution.task_name).where(Execution.agent_task_id.is_not(None))).all() == [tasks.LOOK_UP]
    assert words.asked == []


@pytest.mark.parametrize("visibility", ["nobody", "role"])
def test_an_answer_that_others_read_is_made_of_nothing_that_is_hidden_from_them(transactions: Transactions, words: Words, deliver: Any) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "How do I restart the cache?", executor="node", look_up=True)
    assert deliver(tasks.LOOK_UP)["sources"] == []
    assert deliver(tasks.RUN_ON_NODE)["sources"] == []
    assert "def restart_cache" not in words.asked[0]
