"""The index of chunks, by words and by vectors, on a real LanceDB."""

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import InvalidInput
from federation.vectors.filters import Scope
from federation.vectors.held import _best
from federation.vectors.index import MEANING, STATIC, STATIC_DIM, WORDS, Key, VectorIndex
from federation.vectors.table import DIM
from federation.vectors.wording import searchable_text
from tests.integration.vectors.conftest import along

Put = Callable[..., None]
# How far a score may be from what it is where vectors are held in steps.
STEP = 0.003


def test_a_chunk_is_put_and_replaced(index: VectorIndex, put: Put) -> None:
    put("1", "apple")
    put("2", "pear")
    put("2", "plum")
    assert (index.words.count(), index.words.values("id"), index.meanings.values("id")) == (2, {"1", "2"}, {"1", "2"})
    assert [hit.id for hit in index.search("plum")] == ["2"]
    assert index.search("pear") == []


def test_deleted_chunks_are_found_no_more(index: VectorIndex, put: Put) -> None:
    put("1", "apple")
    put("it's", "apple")
    index.delete(["it's", "unknown"])
    assert index.words.values("id") == index.meanings.values("id") == {"1"}
    assert [hit.id for hit in index.search("apple", along(0, STATIC_DIM), along(0))] == ["1"]


def test_empty_index_answers_with_nothing(index: VectorIndex) -> None:
    assert index.search("anything", along(0, STATIC_DIM), along(0)) == []
    assert (index.words.count(), index.meanings.values("id")) == (0, set())
    index.optimize()


def test_it_says_which_ranker_found_what(index: VectorIndex, put: Put) -> None:
    put("words", "retry with back off", axis=1)
    put("meaning", "unrelated", axis=0)
    put("both", "retry", axis=0)
    index.optimize()
    hits = index.search("how to retry", along(0, STATIC_DIM), along(0))
    assert hits[0].id == "both"
    ranks = {hit.id: set(hit.ranks) for hit in hits}
    assert ranks["both"] == {WORDS, STATIC, MEANING}
    assert WORDS not in ranks["meaning"]


def test_what_is_not_embedded_yet_is_found_beside_what_is(index: VectorIndex, put: Put) -> None:
    put("old", "pear", axis=3)
    for number in range(9):
        put(f"new {number}", "apple" if number else "apple tree", axis=0, meaning=False)
    # It is the only one that has a meaning, which says little.
    assert index.search("apple tree", along(0, STATIC_DIM), along(0))[0].id == "new 0"
    assert "old" in {hit.id for hit in index.search("apple", along(0, STATIC_DIM), along(0))}


def test_of_two_alike_the_one_whose_file_is_about_the_question_comes_first(index: VectorIndex, put: Put) -> None:
    put("1", "open", document="a", path="a.py")
    put("2", "open", document="b", path="b.py")
    assert [hit.id for hit in index.search("open socket")] == ["1", "2"]
    put("3", "socket", document="b", path="b.py", kind="class")
    assert [hit.id for hit in index.search("open socket", scope=Scope(kinds=["function"]))] == ["2", "1"]


def test_document_has_the_words_of_its_chunks_and_goes_with_the_last(index: VectorIndex, put: Put) -> None:
    put("1", "apple", document="a", axis=0)
    put("2", "pear", document="a", axis=1)
    [row] = index.documents.rows("true")
    assert (set(row.text.split()), row.vector[:3].tolist()) == ({"apple", "pear"}, pytest.approx([0.5**0.5, 0.5**0.5, 0.0]))
    index.delete(["1"])
    assert [(row.text, row.vector[1]) for row in index.documents.rows("true")] == [("pear", 1.0)]
    index.delete(["2"])
    assert index.documents.count() == 0


def test_tables_of_before_get_their_documents_when_they_are_compacted(index: VectorIndex, put: Put) -> None:
    put("1", "apple", document="a")
    index.documents.delete(["a"])
    index.optimize()
    assert [row.text for row in index.documents.rows("true")] == ["apple"]


@pytest.mark.parametrize("optimized", [False, True])
def test_identifier_is_found_whole_and_by_its_words(index: VectorIndex, put: Put, optimized: bool) -> None:
    put("1", searchable_text("a.py", "", "self.ensure_connection()"))
    put("2", searchable_text("b.py", "", "connection()"))
    if optimized:
        index.optimize()
    assert index.search("ensure_connection")[0].id == "1"
    assert {hit.id for hit in index.search("connections")} == {"1", "2"} if optimized else True


def test_what_is_put_after_the_index_was_made_is_found_before_the_next_one(index: VectorIndex, put: Put) -> None:
    put("1", "apple")
    index.optimize()
    put("2", "banana", axis=5)
    assert [hit.id for hit in index.search("banana")] == ["2"]
    assert index.search("", None, along(5))[0].id == "2"


def test_scope_limits_documents_collections_kinds_paths_and_suffixes(index: VectorIndex, put: Put) -> None:
    put("1", "apple", document="a", collection="x", path="p/1.PY")
    put("2", "apple", document="b", collection="y", path="q/2.md")
    scopes = (Scope(document_ids=["a"]), Scope(collections=["x"]), Scope(path_prefix="p/"), Scope(suffixes=[".py", ".pyi"]))
    for scope in (*scopes, Scope(["a", "b"], ["x"], ["function"])):
        assert [hit.id for hit in index.search("apple", along(0, STATIC_DIM), along(0), scope=scope)] == ["1"]
        assert index.words.count(scope) == 1
    for scope in (Scope(document_ids=[]), Scope(kinds=["class"]), Scope(suffixes=[".rs"]), Scope(suffixes=[])):
        assert index.search("apple", along(0, STATIC_DIM), along(0), scope=scope) == []
        assert index.words.count(scope) == 0


def test_vectors_that_are_held_are_ranked_as_lancedb_ranks_them(tmp_path: Path) -> None:
    held, not_held = VectorIndex(tmp_path), VectorIndex(tmp_path, index_above=-1)
    random = np.random.default_rng(7)
    vectors = random.standard_normal((500, DIM)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = [Key(str(number), f"d{number % 50}", "xy"[number % 2], f"{'pq'[number % 3 > 0]}/{number % 50}.PY", "kind") for number in range(500)]
    held.put_meanings(keys, [vector.tobytes() for vector in vectors])
    scopes = (Scope(), Scope(collections=["x"]), Scope(["d1", "d2"], ["y"]), Scope(path_prefix="p/"), Scope(kinds=["no"]), Scope(suffixes=[".py"]))
    for scope in (*scopes, Scope(collections=["x"], path_prefix="q/", suffixes=["1.py", "2.py"])):
        assert held.meanings.count(scope) == not_held.meanings.count(scope)
        for depth in (1, 20, 600):
            one, other = (index.meanings.view().by_vector(vectors[3], scope, depth) for index in (held, not_held))
            # What is listed at a place is as near as what LanceDB lists there, but for the steps.
            assert len(one.entries) == len(other.entries)
            for entry, place in zip(one.entries, other.entries, strict=True):
                assert entry.score == pytest.approx(float(vectors[int(entry.id)] @ vectors[3]), abs=STEP)
                assert entry.score == pytest.approx(place.score, abs=STEP)
                assert (entry.document_id, entry.path) == keys[int(entry.id)][1:4:2]
            assert one.floor == pytest.approx(other.floor, abs=STEP)


@pytest.mark.parametrize("alike", [1, 1000])
@pytest.mark.parametrize("count", [1, 7, 99, 100, 401, 5003])
def test_best_are_those_that_an_order_of_all_puts_first(count: int, alike: int) -> None:
    scores = np.random.default_rng(count).integers(0, 10_000 // alike, count).astype(np.float32)
    # The best side by side, as in a file that is about the question.
    scores[count // 2 :].sort()
    for depth in {1, min(50, count), min(100, count), count}:
        assert _best(scores, depth).tolist() == np.argsort(-scores, kind="stable")[:depth].tolist()


def test_of_what_is_held_only_what_came_since_is_read(index: VectorIndex, put: Put) -> None:
    put("1", "apple", axis=1, document="a")
    first = index.meanings.view().held
    put("2", "apple", axis=2, document="b", path="b.py")
    both = index.meanings.view().held
    assert first is not None
    assert both is not None
    assert (len(first), len(both), both.count(Scope(["b"]))) == (1, 2, 1)
    assert first._blocks[0] is both._blocks[0]
    index.delete(["1"])
    put("3", "apple", axis=3, document="b", path="b.py")
    assert {hit.id for hit in index.search("", None, along(3), scope=Scope(["b"]))} == {"2", "3"}
    assert index.meanings.count() == 2


def test_words_of_rows_that_are_held_are_ranked_as_lancedb_ranks_them(tmp_path: Path) -> None:
    held, not_held = VectorIndex(tmp_path), VectorIndex(tmp_path, index_above=-1)
    keys = [Key(str(number), f"d{number % 50}", "xy"[number % 2], f"{'pq'[number % 3 > 0]}/{number % 50}.py", "kind") for number in range(300)]
    texts = [f"apple {'tree ' * (number % 7)} {'pear ' * (number % 5)}" for number in range(300)]
    held.put_words(keys, texts, np.repeat(along(0, STATIC_DIM)[None], 300, axis=0))
    held.words.optimize()
    held.documents.optimize()
    for scope in (Scope(), Scope(collections=["x"]), Scope(path_prefix="p/", suffixes=["7.py"]), Scope(kinds=["no"]), Scope(collections=["x", "y"])):
        one, other = (index.words.view().by_words("apple tree", scope, 400).result() for index in (held, not_held))
        assert sorted(one.entries, key=str) == sorted(other.entries, key=str)
        assert one.floor == other.floor


def test_what_is_put_since_a_view_was_taken_is_found_as_far_as_the_scope_goes(index: VectorIndex, put: Put) -> None:
    put("1", "apple")
    view = index.words.view()
    put("2", "apple")
    put("hidden", "apple", collection="of others")
    # Of another search, for which LanceDB goes on to what is there by then.
    assert index.words.view().held is not view.held
    ranking = view.by_words("apple", Scope(collections=["c"]), 10).result()
    assert {entry.id for entry in ranking.entries} == {"1", "2"}


def test_vectors_of_a_question_may_be_computed_while_it_is_searched(index: VectorIndex, put: Put) -> None:
    put("1", "apple", axis=1)
    asked = []

    def embed(dim: int, texts: Sequence[str]) -> NDArray[np.float32]:
        asked.append(list(texts))
        return np.stack([along(1, dim) for _ in texts])

    found = index.search("anApple", partial(embed, STATIC_DIM), partial(embed, DIM))
    assert found == index.search("anApple", along(1, STATIC_DIM), along(1))
    assert found[0].ranks.keys() == {WORDS, STATIC, MEANING}
    assert asked == [["an apple anapple"], ["anApple"]]
    with pytest.raises(InvalidInput, match=r"vector: got 'shape \(256,\)'"):
        index.search("apple", None, partial(embed, STATIC_DIM))


def test_of_those_who_search_meanwhile_questions_are_embedded_at_once_and_each_finds_what_is_his(index: VectorIndex, put: Put) -> None:
    for number in range(12):
        put(str(number), "apple", axis=number, collection="ab"[number % 2])
    began, go, computed = threading.Event(), threading.Event(), []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        computed.append(len(texts))
        began.set()
        assert go.wait(60)
        return np.stack([along(int(text)) for text in texts])

    scopes = [Scope(collections=["ab"[number % 3 % 2]]) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(index.search, str(number), None, embed, scope=scope) for number, scope in enumerate(scopes)]
        try:
            assert began.wait(60)
            while len(index._compare._waiting) < 12 - computed[0]:
                assert not any(one.done() for one in asked)
        finally:
            go.set()
        for number, (one, scope) in enumerate(zip(asked, scopes, strict=True)):
            hits = one.result()
            assert scope.collections is not None
            assert {"ab"[int(hit.id) % 2] for hit in hits} == set(scope.collections)
            assert (hits[0].id == str(number)) is ("ab"[number % 2] in scope.collections)
    assert (len(computed), sum(computed)) == (2, 12)


def test_nobody_computes_a_meaning_where_nothing_is_embedded(index: VectorIndex, put: Put) -> None:
    put("1", "apple", meaning=False)
    assert [hit.id for hit in index.search("apple", None, lambda _: pytest.fail("it was computed"))] == ["1"]


def test_what_was_held_before_a_change_is_not_answered_after_it(index: VectorIndex, put: Put) -> None:
    put("1", "apple", axis=1)
    assert [hit.id for hit in index.search("", None, along(1))] == ["1"]
    put("2", "apple", axis=1)
    assert {hit.id for hit in index.search("", None, along(1))} == {"1", "2"}
    put("1", "apple", axis=2)
    assert [hit.id for hit in index.search("", None, along(2))] == ["1", "2"]
    index.delete(["1"])
    assert [hit.id for hit in index.search("", None, along(2))] == ["2"]
    index.optimize()
    assert [hit.id for hit in index.search("", None, along(2))] == ["2"]


@pytest.mark.parametrize("value", ["x' OR '1'='1", "x') OR (1=1", "x\\' OR 1=1 --", "'", "x\n' OR true"])
def test_filter_values_are_never_read_as_a_filter(index: VectorIndex, put: Put, value: str) -> None:
    put("1", "apple")
    put("2", "apple", document=value, collection=value, path=value)
    for scope in (Scope(document_ids=[value]), Scope(collections=[value]), Scope(path_prefix=value), Scope(suffixes=[value.lower()])):
        assert [hit.id for hit in index.search("apple", None, along(0), scope=scope)] == ["2"]
    index.delete([value])
    assert index.words.values("id") == {"1", "2"}


@pytest.mark.parametrize("question", ["", "???", '"unbalanced', "a AND (b OR", "text:x^2~", "'; drop", "\0", "日本語"])
def test_question_of_any_signs_is_only_words(index: VectorIndex, put: Put, question: str) -> None:
    put("1", "apple")
    assert [hit.id for hit in index.search(question, None, along(0))] == ["1"]


def test_limit_and_vectors_that_do_not_fit_are_refused(index: VectorIndex, put: Put) -> None:
    with pytest.raises(InvalidInput, match="limit: got 0"):
        index.search("apple", limit=0)
    with pytest.raises(InvalidInput, match=r"vector: got 'shape \(3,\)'"):
        index.search("apple", None, np.zeros(3, dtype=np.float32))
    with pytest.raises(InvalidInput, match=r"vector: got 'shape \(384,\)'"):
        index.search("apple", along(0))
    for bad in (np.zeros(3, dtype="<f4"), np.full(DIM, np.nan, dtype="<f4")):
        with pytest.raises(InvalidInput, match="vector"):
            index.put_meanings([Key("1", "d", "c", "p", "k")], [bad.tobytes()])


def test_index_of_vectors_is_built_above_its_size_and_answers_the_same(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path / "vectors", index_above=300)
    keys = [Key(str(number), "d", "c", "a.py", "function") for number in range(DIM)]
    index.put_words(keys, ["words"] * DIM, np.stack([along(number % STATIC_DIM, STATIC_DIM) for number in range(DIM)]))
    index.put_meanings(keys, [along(number).tobytes() for number in range(DIM)])
    index.optimize()
    made = [{column for each in table._table().list_indices() for column in each.columns} for table in (index.words, index.meanings)]
    assert made == [{"text", "vector", "collection"}, {"vector", "collection"}]
    assert index.search("", None, along(7))[0].id == "7"


def test_tables_of_a_version_before_leave_the_folder(index: VectorIndex, put: Put, tmp_path: Path) -> None:
    for name in ("chunks", "files"):
        (tmp_path / "vectors" / f"{name}.lance").mkdir(parents=True)
    put("1", "apple")
    index.optimize()
    assert sorted(path.name for path in (tmp_path / "vectors").glob("*.lance")) == ["documents.lance", "meanings.lance", "words.lance"]


def _write(directory: Path, count: int, rounds: int = 1) -> None:
    keys = [Key(str(number), "d", "c", "a.py", "function") for number in range(count)]
    index = VectorIndex(directory)
    for _ in range(rounds):
        with index.writing():
            index.put_words(keys, ["apple"] * count, np.stack([along(0, STATIC_DIM)] * count))
            index.put_meanings(keys, [along(0).tobytes()] * count)
            index.optimize()


def test_reader_sees_what_another_process_wrote_after_it_opened(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path)
    assert index.words.count() == 0
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, 1))
    writer.start()
    writer.join(60)
    assert [hit.id for hit in index.search("apple", None, along(0))] == ["0"]


def test_two_processes_and_two_threads_that_write_the_same_at_once_write_it_once(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path)
    assert (index.words.count(), index.meanings.count()) == (0, 0)
    spawn = multiprocessing.get_context("spawn")
    writers = [make(target=_write, args=(tmp_path, 50, 3)) for make in (spawn.Process, spawn.Process, threading.Thread, threading.Thread)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers[:2]] == [0, 0]
    assert (index.words.count(), index.meanings.count()) == (50, 50)


FORKS = """
import os, sys
from pathlib import Path
import numpy as np
from federation.vectors.index import Key, VectorIndex

parent_uses_it, folder = sys.argv[1] == "before", Path(sys.argv[2])
index, vector = VectorIndex(folder), np.ones(384, dtype="<f4")
put = lambda index: index.put_meanings([Key("1", "d", "c", "a.py", "function")], [vector.tobytes()])
if parent_uses_it:
    put(VectorIndex(folder / "another"))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    put(index)
    print([hit.id for hit in index.search("", None, vector)], flush=True)
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
