"""Fusing rankings and grouping hits by file."""

import pytest

from federation.vectors.filters import Scope
from federation.vectors.ranking import Hit, by_file, fuse


def test_item_that_two_rankers_like_beats_the_favourite_of_one() -> None:
    fused = fuse({"text": ["a", "b"], "vector": ["c", "b"]}, {})
    assert [key for key, _, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(2 / 12)
    assert fused[0][2] == {"text": 2, "vector": 2}


def test_weight_decides_between_equal_ranks() -> None:
    assert fuse({"text": ["a"], "vector": ["b"]}, {"vector": 2.0})[0][0] == "b"


def test_files_come_by_their_hits_and_further_hits_count_less() -> None:
    hits = [Hit("1", "a", "a.py", 0.10, {}), Hit("2", "b", "b.py", 0.08, {}), Hit("3", "b", "b.py", 0.06, {})]
    files = by_file(hits)
    assert [(file.path, file.score) for file in files] == [("b.py", pytest.approx(0.11)), ("a.py", pytest.approx(0.10))]
    assert [hit.id for hit in files[0].hits] == ["2", "3"]
    assert [file.path for file in by_file(hits, decay=0.0)] == ["a.py", "b.py"]


def test_same_path_in_two_documents_stays_two_files() -> None:
    assert len(by_file([Hit("1", "one", "a.py", 0.1, {}), Hit("2", "two", "a.py", 0.1, {})])) == 2


def test_filter_doubles_quotes_of_every_value() -> None:
    scope = Scope(document_ids=["t' OR '1'='1"], path_prefix="it's/")
    assert scope.condition() == "document_id IN ('t'' OR ''1''=''1') AND starts_with(path, 'it''s/')"


def test_no_limit_is_no_filter_and_an_empty_limit_lets_nothing_through() -> None:
    assert Scope().condition() is None
    assert not Scope().is_empty
    assert Scope(collections=[]).is_empty
    assert Scope(collections=[]).condition() == "false"
