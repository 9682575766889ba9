"""The table of chunks on a real LanceDB."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.filters import Scope
from federation.vectors.table import DIM, ChunkTable, Row

MakeRow = Callable[..., Row]


def along(axis: int) -> NDArray[np.float32]:
    vector = np.zeros(DIM, dtype=np.float32)
    vector[axis] = 1.0
    return vector


def test_upsert_inserts_and_replaces(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("1", "apple"), row("2", "pear")])
    table.upsert([row("2", "plum"), row("3", "fig"), row("3", "cherry")])
    assert (table.count(), table.ids()) == (3, {"1", "2", "3"})
    assert [hit.id for hit in table.search("plum", None)] == ["2"]
    assert [hit.id for hit in table.search("cherry", None)] == ["3"]
    assert table.search("pear", None) == []


def test_deleted_rows_are_found_no_more(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("1", "apple"), row("it's", "apple"), row("3", "apple")])
    table.delete(["it's", "unknown"])
    assert table.ids() == {"1", "3"}
    table.delete(["3"])
    assert [hit.id for hit in table.search("apple", along(0))] == ["1"]


def test_empty_table_answers_with_nothing(table: ChunkTable) -> None:
    assert table.search("anything", along(0)) == []
    assert (table.count(), table.ids()) == (0, set())
    table.optimize()


def test_hybrid_search_says_which_ranker_found_what(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("words", "retry with back off", axis=1), row("meaning", "unrelated", axis=0), row("both", "retry", axis=0)])
    table.optimize()
    hits = table.search("how to retry", along(0))
    assert hits[0].id == "both"
    assert {hit.id: set(hit.ranks) for hit in hits}["both"] == {"text", "vector"}
    assert "text" not in {hit.id: hit.ranks for hit in hits}["meaning"]


@pytest.mark.parametrize("optimized", [False, True])
def test_identifier_is_found_whole_and_by_its_words(table: ChunkTable, row: MakeRow, optimized: bool) -> None:
    from federation.vectors.wording import searchable_text

    table.upsert([row("1", searchable_text("a.py", "", "self.ensure_connection()")), row("2", searchable_text("b.py", "", "connection()"))])
    if optimized:
        table.optimize()
    assert table.search("ensure_connection", None)[0].id == "1"
    assert {hit.id for hit in table.search("connections", None)} == {"1", "2"} if optimized else True


def test_rows_written_after_the_index_are_found_before_the_next_one(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("1", "apple")])
    table.optimize()
    table.upsert([row("2", "banana", axis=5)])
    assert [hit.id for hit in table.search("banana", None)] == ["2"]
    assert table.search("", along(5))[0].id == "2"


def test_scope_limits_documents_collections_kinds_and_paths(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("1", "apple", document="a", collection="x", path="p/1.py"), row("2", "apple", document="b", collection="y", path="q/2.py")])
    for scope in (Scope(document_ids=["a"]), Scope(collections=["x"]), Scope(path_prefix="p/"), Scope(["a", "b"], ["x"], ["function"])):
        assert [hit.id for hit in table.search("apple", along(0), scope=scope)] == ["1"]
        assert (table.count(scope), table.ids(scope)) == (1, {"1"})
    for scope in (Scope(document_ids=[]), Scope(kinds=["class"])):
        assert table.search("apple", along(0), scope=scope) == []
        assert (table.count(scope), table.ids(scope)) == (0, set())


@pytest.mark.parametrize("value", ["x' OR '1'='1", "x') OR (1=1", "x\\' OR 1=1 --", "'", "x\n' OR true"])
def test_filter_values_are_never_read_as_a_filter(table: ChunkTable, row: MakeRow, value: str) -> None:
    table.upsert([row("1", "apple"), row("2", "apple", document=value, collection=value, path=value)])
    for scope in (Scope(document_ids=[value]), Scope(collections=[value]), Scope(path_prefix=value)):
        assert [hit.id for hit in table.search("apple", along(0), scope=scope)] == ["2"]
    table.delete([value])
    assert table.count() == 2


@pytest.mark.parametrize("question", ["", "???", '"unbalanced', "a AND (b OR", "text:x^2~", "'; drop", "\0", "日本語"])
def test_question_of_any_signs_is_only_words(table: ChunkTable, row: MakeRow, question: str) -> None:
    table.upsert([row("1", "apple")])
    assert [hit.id for hit in table.search(question, along(0))] == ["1"]


def test_limit_and_vectors_that_do_not_fit_are_refused(table: ChunkTable, row: MakeRow) -> None:
    with pytest.raises(InvalidInput, match="limit: got 0"):
        table.search("apple", None, limit=0)
    with pytest.raises(InvalidInput, match=r"vector: got 'shape \(3,\)'"):
        table.search("apple", np.zeros(3, dtype=np.float32))
    for bad in (np.zeros(3, dtype=np.float32), np.full(DIM, np.nan, dtype=np.float32)):
        with pytest.raises(InvalidInput, match="vector"):
            table.upsert([Row("1", "d", "c", "p", "k", "t", bad)])


def test_index_of_vectors_is_built_above_its_size_and_answers_the_same(tmp_path: Path, row: MakeRow) -> None:
    table = ChunkTable(tmp_path / "vectors", index_above=300)
    table.upsert([row(str(number), axis=number) for number in range(DIM)])
    table.optimize()
    assert {column for index in table._table().list_indices() for column in index.columns} == {"text", "vector"}
    assert table.search("", along(7))[0].id == "7"


def _write(directory: Path, rows: list[Row]) -> None:
    ChunkTable(directory).upsert(rows)


def test_reader_sees_what_another_process_wrote_after_it_opened(tmp_path: Path, row: MakeRow) -> None:
    table = ChunkTable(tmp_path)
    assert table.count() == 0
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, [row("1", "apple")]))
    writer.start()
    writer.join(60)
    assert [hit.id for hit in table.search("apple", along(0))] == ["1"]


def test_same_new_rows_merged_by_two_processes_at_once_are_there_once(tmp_path: Path, row: MakeRow) -> None:
    ChunkTable(tmp_path).count()
    rows = [row(str(number)) for number in range(50)]
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path, rows)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert ChunkTable(tmp_path).count() == 50


def test_table_opened_before_a_fork_works_in_the_child(table: ChunkTable, row: MakeRow) -> None:
    table.upsert([row("1", "apple")])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if [hit.id for hit in table.search("apple", along(0))] == ["1"] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
