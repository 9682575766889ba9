"""Adding up rankings of chunks, and what a search may look at."""

import pytest

from federation.vectors.filters import Scope
from federation.vectors.ranking import Entry, Ranking, fused


def ranking(*scores: tuple[str, float], floor: float = 0.0) -> Ranking:
    """A ranking of chunks such as `a1`, the first chunk of the file `a`."""
    return Ranking([Entry(key, key[0], f"{key[0]}.py", score) for key, score in scores], floor)


def test_share_runs_from_the_floor_to_the_best() -> None:
    assert ranking(("a1", 9.0), ("b1", 6.0), ("c1", 5.0), floor=5.0).shares() == [1.0, 0.25, 0.0]
    assert ranking(("a1", 3.0)).shares() == [1.0]
    assert ranking().shares() == []


def test_ranking_whose_scores_are_all_alike_prefers_none() -> None:
    assert ranking(("a1", 5.0), ("b1", 5.0), floor=5.0).shares() == [1.0, 1.0]


def test_scales_of_the_rankers_do_not_matter() -> None:
    near = {"text": ranking(("a1", 30.0), ("b1", 27.0)), "vector": ranking(("b1", 0.5), ("a1", 0.2))}
    assert [hit.path for hit in fused({ranker: (1.0, each) for ranker, each in near.items()})] == ["b.py", "a.py"]


def test_filter_doubles_quotes_of_every_value() -> None:
    scope = Scope(document_ids=["t' OR '1'='1"], path_prefix="it's/")
    assert scope.condition() == "document_id IN ('t'' OR ''1''=''1') AND starts_with(path, 'it''s/')"


def test_no_limit_is_no_filter_and_an_empty_limit_lets_nothing_through() -> None:
    assert Scope().condition() is None
    assert not Scope().is_empty
    assert Scope(collections=[]).is_empty
    assert Scope(collections=[]).condition() == "false"


def test_shares_are_added_by_weight_whatever_the_scores() -> None:
    first, second = ranking(("a1", 900.0), ("b1", 450.0)), ranking(("b1", 0.2), ("c1", 0.1))
    hits = fused({"words": (1.0, first), "meaning": (1.5, second)})
    assert [(hit.id, hit.ranks) for hit in hits] == [("b1", {"words": 2, "meaning": 1}), ("a1", {"words": 1}), ("c1", {"meaning": 2})]
    assert [hit.score for hit in hits] == [pytest.approx(2.0), 1.0, pytest.approx(0.75)]
    assert fused({}) == []


def test_fused_ties_go_by_path_and_id() -> None:
    hits = fused({"words": (1.0, ranking(("b1", 1.0))), "meaning": (1.0, ranking(("a2", 1.0))), "more": (1.0, ranking(("a1", 1.0)))})
    assert [hit.id for hit in hits] == ["a1", "a2", "b1"]


def test_share_of_a_document_comes_to_each_of_its_chunks_and_brings_none() -> None:
    chunks, whole = ranking(("a1", 2.0), ("b1", 2.0), ("b2", 1.0)), ranking(("b", 9.0), ("c", 8.0))
    hits = fused({"words": (1.0, chunks)}, [(0.25, whole)])
    assert [(hit.id, hit.score) for hit in hits] == [("b1", 1.25), ("a1", 1.0), ("b2", 0.75)]


def test_suffixes_are_alternatives() -> None:
    condition = Scope(suffixes=[".py", ".pyi"]).condition()
    assert condition == "(ends_with(lower(path), '.py') OR ends_with(lower(path), '.pyi'))"
