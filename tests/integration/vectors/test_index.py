"""The index of chunks and files on a real LanceDB."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.filters import EVERYTHING, Scope
from federation.vectors.index import VectorIndex
from federation.vectors.table import DIM, Row

MakeRow = Callable[..., Row]


def along(axis: int) -> NDArray[np.float32]:
    vector = np.zeros(DIM, dtype=np.float32)
    vector[axis] = 1.0
    return vector


def test_upsert_inserts_and_replaces(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple"), row("2", "pear")])
    index.upsert([row("2", "plum"), row("3", "fig"), row("3", "cherry")])
    assert (index.chunks.count(), index.chunks.values("id")) == (3, {"1", "2", "3"})
    assert [hit.id for hit in index.search("plum", None)] == ["2"]
    assert [hit.id for hit in index.search("cherry", None)] == ["3"]
    assert index.search("pear", None) == []


def test_deleted_rows_are_found_no_more(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple"), row("it's", "apple")])
    index.delete(["it's", "unknown"])
    assert index.chunks.values("id") == {"1"}
    assert [hit.id for hit in index.search("apple", along(0))] == ["1"]


def test_empty_table_answers_with_nothing(index: VectorIndex) -> None:
    assert index.search("anything", along(0)) == []
    assert (index.chunks.count(), index.chunks.values("id")) == (0, set())
    index.optimize()


def test_hybrid_search_says_which_ranker_found_what(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("words", "retry with back off", axis=1), row("meaning", "unrelated", axis=0), row("both", "retry", axis=0)])
    index.optimize()
    hits = index.search("how to retry", along(0))
    assert hits[0].id == "both"
    assert {hit.id: set(hit.ranks) for hit in hits}["both"] == {"text", "vector"}
    assert "text" not in {hit.id: hit.ranks for hit in hits}["meaning"]


@pytest.mark.parametrize("optimized", [False, True])
def test_identifier_is_found_whole_and_by_its_words(index: VectorIndex, row: MakeRow, optimized: bool) -> None:
    from federation.vectors.wording import searchable_text

    index.upsert([row("1", searchable_text("a.py", "", "self.ensure_connection()")), row("2", searchable_text("b.py", "", "connection()"))])
    if optimized:
        index.optimize()
    assert index.search("ensure_connection", None)[0].id == "1"
    assert {hit.id for hit in index.search("connections", None)} == {"1", "2"} if optimized else True


def test_rows_written_after_the_index_are_found_before_the_next_one(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple")])
    index.optimize()
    index.upsert([row("2", "banana", axis=5)])
    assert [hit.id for hit in index.search("banana", None)] == ["2"]
    assert index.search("", along(5))[0].id == "2"


def test_scope_limits_documents_collections_kinds_and_paths(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple", document="a", collection="x", path="p/1.py"), row("2", "apple", document="b", collection="y", path="q/2.py")])
    for scope in (Scope(document_ids=["a"]), Scope(collections=["x"]), Scope(path_prefix="p/"), Scope(["a", "b"], ["x"], ["function"])):
        assert [hit.id for hit in index.search("apple", along(0), scope=scope)] == ["1"]
        assert (index.chunks.count(scope), [one.id for one in index.chunks.rows(scope)]) == (1, ["1"])
    for scope in (Scope(document_ids=[]), Scope(kinds=["class"])):
        assert index.search("apple", along(0), scope=scope) == []
        assert (index.chunks.count(scope), index.chunks.rows(scope)) == (0, [])


@pytest.mark.parametrize("value", ["x' OR '1'='1", "x') OR (1=1", "x\\' OR 1=1 --", "'", "x\n' OR true"])
def test_filter_values_are_never_read_as_a_filter(index: VectorIndex, row: MakeRow, value: str) -> None:
    index.upsert([row("1", "apple"), row("2", "apple", document=value, collection=value, path=value)])
    for scope in (Scope(document_ids=[value]), Scope(collections=[value]), Scope(path_prefix=value)):
        assert [hit.id for hit in index.search("apple", along(0), scope=scope)] == ["2"]
    index.delete([value])
    assert index.chunks.values("id") == {"1", "2"}


@pytest.mark.parametrize("question", ["", "???", '"unbalanced', "a AND (b OR", "text:x^2~", "'; drop", "\0", "日本語"])
def test_question_of_any_signs_is_only_words(index: VectorIndex, row: MakeRow, question: str) -> None:
    index.upsert([row("1", "apple")])
    assert [hit.id for hit in index.search(question, along(0))] == ["1"]


def test_file_is_shown_once_by_its_best_chunk(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple", axis=0, document="a"), row("2", "apple apple", axis=0, document="a"), row("3", "apple pear", axis=3)])
    hits = index.search("apple", along(0))
    assert [(hit.id, hit.document_id) for hit in hits] == [("2", "a"), ("3", "of 3")]
    assert len(index.search("apple", along(0), limit=1)) == 1


def test_file_about_the_question_as_a_whole_beats_one_equal_chunk(index: VectorIndex, row: MakeRow) -> None:
    stray = [row(f"stray {number}", "walnut hazelnut", axis=9, document="stray") for number in range(9)]
    about = [row(f"about {number}", text, axis=0, document="z about") for number, text in enumerate(["apple", "pear tree", "plum tree"])]
    index.upsert([row("stray", "apple", axis=0, document="stray"), *stray, *about])
    assert [hit.id for hit in index.search("apple", None)] == ["about 0", "stray"]
    assert [hit.document_id for hit in index.search("", along(0))] == ["z about", "stray"]
    assert [hit.document_id for hit in index.search("where is the apple tree", along(0))] == ["z about", "stray"]


def files(index: VectorIndex) -> dict[str, tuple[str, NDArray[np.float32]]]:
    return {one.id: (" ".join(sorted(one.text.split())), one.vector) for one in index.files.rows(EVERYTHING)}


def test_row_of_a_file_follows_its_chunks(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row("1", "apple", axis=0, document="a"), row("2", "pear", axis=1, document="a"), row("3", "fig", document="b", path="b.py")])
    found = files(index)
    assert {key: text for key, (text, _) in found.items()} == {"a": "apple pear", "b": "fig"}
    np.testing.assert_allclose(found["a"][1], (along(0) + along(1)) / 2)
    index.upsert([row("2", "plum", axis=1, document="a")])
    assert files(index)["a"][0] == "apple plum"
    index.delete(["1", "3"])
    assert {key: text for key, (text, _) in files(index).items()} == {"a": "plum"}
    np.testing.assert_allclose(files(index)["a"][1], along(1))


def test_files_that_a_killed_writer_left_out_are_made_by_the_next_optimize(index: VectorIndex, row: MakeRow) -> None:
    index.chunks.upsert([row("1", "apple", document="a"), row("2", "pear", document="b")])
    assert files(index) == {}
    index.optimize()
    assert files(index).keys() == {"a", "b"}


def test_more_files_than_are_made_at_once(index: VectorIndex, row: MakeRow) -> None:
    index.upsert([row(str(number), f"word{number}") for number in range(600)])
    assert index.files.count() == 600
    index.delete([str(number) for number in range(1, 600)])
    assert [one.text for one in index.files.rows(EVERYTHING)] == ["word0"]


def test_limit_and_vectors_that_do_not_fit_are_refused(index: VectorIndex, row: MakeRow) -> None:
    with pytest.raises(InvalidInput, match="limit: got 0"):
        index.search("apple", None, limit=0)
    with pytest.raises(InvalidInput, match=r"vector: got 'shape \(3,\)'"):
        index.search("apple", np.zeros(3, dtype=np.float32))
    for bad in (np.zeros(3, dtype=np.float32), np.full(DIM, np.nan, dtype=np.float32)):
        with pytest.raises(InvalidInput, match="vector"):
            index.upsert([Row("1", "d", "c", "p", "k", "t", bad)])


def test_index_of_vectors_is_built_above_its_size_and_answers_the_same(tmp_path: Path, row: MakeRow) -> None:
    index = VectorIndex(tmp_path / "vectors", index_above=300)
    index.upsert([row(str(number), axis=number) for number in range(DIM)])
    index.optimize()
    assert {column for made in index.chunks._table().list_indices() for column in made.columns} == {"text", "vector", "collection"}
    assert index.search("", along(7))[0].id == "7"


def _write(directory: Path, rows: list[Row]) -> None:
    VectorIndex(directory).upsert(rows)


def test_reader_sees_what_another_process_wrote_after_it_opened(tmp_path: Path, row: MakeRow) -> None:
    index = VectorIndex(tmp_path)
    assert index.chunks.count() == 0
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, [row("1", "apple")]))
    writer.start()
    writer.join(60)
    assert [hit.id for hit in index.search("apple", along(0))] == ["1"]


def test_same_new_rows_merged_by_two_processes_at_once_are_there_once(tmp_path: Path, row: MakeRow) -> None:
    index = VectorIndex(tmp_path)
    assert (index.chunks.count(), index.files.count()) == (0, 0)
    rows = [row(str(number)) for number in range(50)]
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path, rows)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert (index.chunks.count(), index.files.count()) == (50, 50)


FORKS = """
import os, sys
from pathlib import Path
import numpy as np
from federation.vectors.index import VectorIndex
from federation.vectors.table import DIM, Row

parent_uses_it, folder = sys.argv[1] == "before", Path(sys.argv[2])
index, row = VectorIndex(folder), Row("1", "d", "c", "a.py", "function", "apple", np.ones(DIM, dtype=np.float32))
if parent_uses_it:
    VectorIndex(folder / "another").upsert([row])
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    index.upsert([row])
    print([hit.id for hit in index.search("apple", row.vector)], flush=True)
except RuntimeError as error:
    print(error, flush=True)
# As a pool's child ends: what LanceDB would do at the end of an interpreter may wait for threads that are not there.
os._exit(0)
"""


@pytest.mark.parametrize(("when", "says"), [("never", "['1']"), ("before", "used before the fork: use it only in the child")])
def test_forked_child_may_use_it_and_is_refused_at_once_if_its_parent_did(tmp_path: Path, when: str, says: str) -> None:
    # In a process of its own, because this one uses LanceDB.
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS, when, tmp_path], capture_output=True, text=True, check=True, timeout=120)
    assert says in done.stdout
