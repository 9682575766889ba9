"""A tree is indexed once: only what changed is embedded, what is gone is deleted, and the last batch calls the writer."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from federation.services import indexed_folders, indexing
from federation.services.indexed_documents import NewDocument
from federation.store.models.executions import Execution
from federation.store.models.retrieval import Chunk, IndexBatch, IndexRun, VectorChange
from federation.vectors import chunking

ROOT = "/srv/code"


def document(path: str, *texts: str, version: int = 1) -> NewDocument:
    chunks = [chunking.Chunk(path, "function", f"f{n}", n + version, n + version, text, f"{path}:{text}") for n, text in enumerate(texts)]
    return NewDocument(path, f"{path}-{texts}", 10, chunks)


def scan(transactions, *documents: NewDocument, present: list[str] | None = None) -> indexing.RunView:
    with transactions.begin("ada") as session:
        paths = present or [each.path for each in documents]
        return indexing.record_scan(session, uuid.uuid4(), ROOT, paths=paths, documents=documents, skipped=[])


def executions(transactions, task: str, run: indexing.RunView) -> list[uuid.UUID]:
    with transactions.begin("ada") as session:
        query = select(Execution.id).where(Execution.task_name == task, Execution.kwargs["run_id"].astext == str(run.run_id))
        return list(session.scalars(query))


def batches_of(transactions, run: indexing.RunView) -> list[uuid.UUID]:
    with transactions.begin("ada") as session:
        return list(session.scalars(select(IndexBatch.execution_id).where(IndexBatch.run_id == run.run_id)))


def embed(transactions, execution_id: uuid.UUID) -> None:
    with transactions.begin("ada") as session:
        chunks = indexing.batch(session, execution_id)
    with transactions.begin("ada") as session:
        vectors = {chunk.id: b"\0" * 4 for chunk in chunks}
        indexing.record_vectors(session, execution_id, node="baby", model="m", vectors=vectors)


def make_searchable(transactions, run: indexing.RunView) -> int:
    with transactions.begin("ada") as session:
        indexing.record_words(session, run.run_id, indexing.unsearchable(session, run.run_id))
        gone = indexing.gone(session, run.run_id)
        assert indexing.record_searchable(session, run.run_id, gone).searchable
        indexing.call_for_vectors(session, run.run_id)
    return len(gone)


def write(transactions, run: indexing.RunView) -> int:
    with transactions.begin("ada") as session:
        staged = indexing.staged(session, run.run_id)
        indexing.record_written(session, run.run_id, [chunk.id for chunk, _ in staged])
    return len(staged)


def finish(transactions, run: indexing.RunView) -> tuple[int, int]:
    """Do all that a run calls for; return how many vectors were written, and how many chunks taken out."""
    gone = make_searchable(transactions, run)
    batches = batches_of(transactions, run)
    for execution_id in batches:
        embed(transactions, execution_id)
    assert len(executions(transactions, indexing.WRITE, run)) == min(len(batches), 1)
    written = write(transactions, run) if batches else 0
    with transactions.begin("ada") as session:
        assert indexing.progress(session, run.run_id).finished
    return written, gone


@pytest.fixture
def indexed(transactions) -> indexing.RunView:
    run = scan(transactions, document("a.py", "one", "two"), document("b.py", "three"))
    assert finish(transactions, run) == (3, 0)
    return run


def test_an_unchanged_chunk_costs_nothing_and_its_lines_move(transactions, indexed) -> None:
    run = scan(transactions, document("a.py", "one", "new", version=5), present=["a.py", "b.py"])
    assert (run.chunks, run.deleted_files) == (1, 0)
    assert finish(transactions, run) == (1, 1)
    with transactions.begin("ada") as session:
        assert session.scalar(select(Chunk.start_line).where(Chunk.text == "one")) == 5
        assert session.scalar(select(func.count()).select_from(VectorChange)) == 0


def test_a_file_that_is_gone_disappears(transactions, indexed) -> None:
    run = scan(transactions, present=["a.py"])
    assert (run.chunks, run.deleted_files) == (0, 1)
    assert finish(transactions, run) == (0, 1)
    with transactions.begin("ada") as session:
        assert set(session.scalars(select(Chunk.text))) == {"one", "two"}


def test_only_files_with_another_digest_are_stale(transactions, indexed) -> None:
    with transactions.begin("ada") as session:
        same = document("a.py", "one", "two").sha256
        folder = indexed_folders.find(session, ROOT, None, None)
        assert indexing.changed(session, folder, {"a.py": same, "b.py": "other", "c.py": "new"}) == {"b.py", "c.py"}
        assert indexing.changed(session, None, {"a.py": same}) == {"a.py"}


def test_what_a_killed_run_left_is_taken_up_by_the_next(transactions) -> None:
    scan(transactions, document("a.py", "one", "two"))
    assert scan(transactions, present=["a.py"]).chunks == 2


def test_a_scan_delivered_twice_is_one_run(transactions) -> None:
    identity = uuid.uuid4()
    for _ in range(2):
        with transactions.begin("ada") as session:
            view = indexing.record_scan(session, identity, ROOT, paths=["a.py"], documents=[document("a.py", "one")], skipped=[])
        make_searchable(transactions, view)
    assert (view.batches, len(executions(transactions, indexing.EMBED, view))) == (1, 1)


def test_batches_that_end_at_once_call_the_writer_once(transactions, monkeypatch) -> None:
    monkeypatch.setattr(indexing, "BATCH", 1)
    monkeypatch.setattr(indexing, "WRITE_EVERY", 16)
    run = scan(transactions, document("a.py", *(f"text {n}" for n in range(12))))
    make_searchable(transactions, run)
    batches = batches_of(transactions, run)
    assert len(batches) == 12
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda each: embed(transactions, each), [*batches, *batches]))
    assert len(executions(transactions, indexing.WRITE, run)) == 1
    assert write(transactions, run) == 12
    with transactions.begin("ada") as session:
        assert indexing.progress(session, run.run_id).finished


def test_what_cannot_be_read_now_stays_indexed(transactions, indexed) -> None:
    run = scan(transactions, document("c/d.py", "four"), present=["a.py", "b.py", "c/d.py"])
    finish(transactions, run)
    with transactions.begin("ada") as session:
        kept = indexing.record_scan(session, uuid.uuid4(), ROOT, paths=["a.py"], documents=[], skipped=[], unreadable=["b.py", "c"])
    assert kept.deleted_files == 0


def test_deletions_that_a_run_left_are_taken_up_by_the_next(transactions, indexed) -> None:
    scan(transactions, present=["a.py"])
    run = scan(transactions, present=["a.py"])
    assert finish(transactions, run) == (0, 1)


def test_a_run_of_more_chunks_than_a_statement_has_parameters_ends(transactions) -> None:
    run = scan(transactions, document("big.py", "one"))
    with transactions.begin("ada") as session:
        view = indexing.record_written(session, run.run_id, [uuid.uuid4() for _ in range(70_000)])
        assert view.finished
        many = [f"{number}.py" for number in range(70_000)]
        assert indexing.record_scan(session, uuid.uuid4(), ROOT, paths=many, documents=[], skipped=[]).deleted_files == 1


def test_a_scan_that_is_delivered_twice_at_once_is_one_run(transactions) -> None:
    identity = uuid.uuid4()

    def record(_: int) -> indexing.RunView:
        with transactions.begin("ada") as session:
            return indexing.record_scan(session, identity, ROOT, paths=["a.py"], documents=[document("a.py", "one", "two")], skipped=[])

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(record, range(4)))
    assert {(run.run_id, run.chunks, run.batches) for run in runs} == {(identity, 2, 1)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: make_searchable(transactions, run), runs))
    assert len(executions(transactions, indexing.EMBED, runs[0])) == 1


def test_a_long_run_calls_the_writer_again_and_again_and_ends_with_its_last_vector(transactions, monkeypatch) -> None:
    monkeypatch.setattr(indexing, "BATCH", 1)
    monkeypatch.setattr(indexing, "WRITE_EVERY", 2)
    run = scan(transactions, document("a.py", *(f"text {n}" for n in range(5))))
    make_searchable(transactions, run)
    batches = batches_of(transactions, run)
    for number, each in enumerate(batches, start=1):
        embed(transactions, each)
        assert len(executions(transactions, indexing.WRITE, run)) == number // 2 + (number == 5)
        if number == 4:
            assert write(transactions, run) == 4
    with transactions.begin("ada") as session:
        assert not indexing.progress(session, run.run_id).finished
        # A writer that was called before the last batch ended, and comes late.
        assert not indexing.record_written(session, run.run_id, []).finished
        assert set(executions(transactions, indexing.WRITE, run)) <= set(indexing.executions_of(session, run.run_id))
    assert write(transactions, run) == 1
    with transactions.begin("ada") as session:
        assert indexing.progress(session, run.run_id).finished


def test_what_is_not_searchable_is_read_page_by_page_and_each_document_whole(transactions, monkeypatch) -> None:
    monkeypatch.setattr(indexing, "DOCUMENTS", 2)
    texts = [f"text {n}" for n in range(3)]
    run = scan(transactions, *(document(f"{name}.py", *texts) for name in "abcde"))
    pages: list[list[indexing.UnsearchableChunk]] = []
    with transactions.begin("ada") as session:
        while page := indexing.unsearchable(session, run.run_id, after=pages[-1][-1].document_id if pages else None):
            pages.append(page)
        found = [(chunk.path, chunk.text) for page in pages for chunk in indexing.stored(session, [each.id for each in page])]
    assert sorted(found) == [(f"{name}.py", text) for name in "abcde" for text in texts]
    assert [len({chunk.path for chunk in page}) for page in pages] == [2, 2, 1]
    assert [len(page) for page in pages] == [6, 6, 3]


def test_documents_without_pieces_keep_nobody_from_those_that_have_some(transactions, monkeypatch) -> None:
    monkeypatch.setattr(indexing, "DOCUMENTS", 1)
    run = scan(transactions, *(document(f"{n}.py") for n in range(30)), document("a.py", "text"))
    with transactions.begin("ada") as session:
        assert [chunk.path for chunk in indexing.unsearchable(session, run.run_id)] == ["a.py"]


def test_a_document_that_is_recorded_anew_while_its_words_are_written_is_not_found_by_them_yet(transactions) -> None:
    first = scan(transactions, document("a.py", "one"), document("b.py", "two"))
    with transactions.begin("ada") as session:
        read = indexing.unsearchable(session, first.run_id)
    second = scan(transactions, document("a.py", "one", "new"), present=["a.py", "b.py"])
    with transactions.begin("ada") as session:
        indexing.record_words(session, first.run_id, read)
    with transactions.begin("ada") as session:
        left = [chunk.id for chunk in indexing.unsearchable(session, second.run_id)]
        assert {chunk.text for chunk in indexing.stored(session, left)} == {"one", "new"}


def test_no_more_batches_are_on_their_way_than_nodes_can_embed(transactions, monkeypatch) -> None:
    monkeypatch.setattr(indexing, "BATCH", 1)
    run = scan(transactions, document("a.py", *(f"text {n}" for n in range(6))))
    make_searchable(transactions, run)
    done: list[uuid.UUID] = []
    while waiting := [each for each in executions(transactions, indexing.EMBED, run) if each not in done]:
        assert len(waiting) == 1
        embed(transactions, waiting[0])
        # As one that is delivered twice.
        embed(transactions, waiting[0])
        done.append(waiting[0])
    assert len(done) == 6
    # All of them are on their way, those too that are not called for yet.
    late = scan(transactions, document("b.py", *(f"more {n}" for n in range(6))), present=["a.py", "b.py"])
    make_searchable(transactions, late)
    assert scan(transactions, present=["a.py", "b.py"]).chunks == 0


def test_what_is_on_its_way_is_called_for_again_only_if_that_failed(transactions) -> None:
    first = scan(transactions, document("a.py", "one", "two"))
    make_searchable(transactions, first)
    [late] = executions(transactions, indexing.EMBED, first)
    second = scan(transactions, document("b.py", "three"), present=["a.py", "b.py"])
    make_searchable(transactions, second)
    assert (first.chunks, second.chunks) == (2, 1)
    with transactions.begin("test:hand") as session:
        session.execute(update(Execution).where(Execution.id == late).values(outcome="FAILURE"))
    third = scan(transactions, present=["a.py", "b.py"])
    make_searchable(transactions, third)
    assert third.chunks == 2
    for run in (second, third):
        for each in executions(transactions, indexing.EMBED, run):
            embed(transactions, each)
    # As one that comes late all the same.
    with transactions.begin("ada") as session:
        assert indexing.batch(session, late) == []
    embed(transactions, late)
    assert write(transactions, first) == 3
    with transactions.begin("ada") as session:
        assert indexing.progress(session, first.run_id).finished
        assert session.scalar(select(func.count()).where(Chunk.vector_at.is_(None))) == 0


def test_compaction_is_asked_for_once_a_period_after_something_was_indexed(transactions) -> None:
    def ask(every: timedelta) -> uuid.UUID | None:
        with transactions.begin("service:beat") as session:
            return indexing.request_compaction(session, every=every)

    assert ask(timedelta(hours=1)) is None
    run = scan(transactions, document("a.py", "one"))
    # Of a length in which this test ends.
    asked = {ask(timedelta(days=3650)) for _ in range(2)}
    assert len(asked) == 1
    assert None not in asked
    with transactions.begin("test:hand") as session:
        session.execute(update(IndexRun).where(IndexRun.id == run.run_id).values(created_at=func.now() - timedelta(hours=3)))
    assert ask(timedelta(hours=1)) is None


def test_two_who_index_the_same_tree_at_once_make_each_chunk_once(transactions) -> None:
    files = [document(f"{name}.py", *(f"{name} {n}" for n in range(20))) for name in "abcdefgh"]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: scan(transactions, *files), range(4)))
        list(pool.map(lambda run: make_searchable(transactions, run), runs))
    with transactions.begin("ada") as session:
        texts = list(session.scalars(select(Chunk.text)))
    assert len(texts) == len(set(texts)) == 160
