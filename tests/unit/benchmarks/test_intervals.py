"""Medians, percentiles and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.intervals import Ratio, paired_ratio, percentile

rates = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=12)


@given(rates)
def test_percentile_is_one_of_the_values(values: list[float]) -> None:
    assert percentile(values, 100) == max(values)
    assert percentile(values, 0) == min(values)
    assert percentile(values, 50) in values


def test_nearest_rank_as_the_books_have_it() -> None:
    assert percentile([15, 20, 35, 40, 50], 40) == 20
    assert percentile(range(1, 101), 99) == 99


@given(rates)
def test_a_peer_as_fast_as_we_are_is_at_parity(values: list[float]) -> None:
    assert paired_ratio(values, values) == Ratio(1.0, 1.0, 1.0)


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=1, max_size=12))
def test_interval_holds_the_median_and_stays_within_the_rounds(pairs: list[tuple[float, float]]) -> None:
    found = paired_ratio([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    ratios = [ours / theirs for ours, theirs in pairs]
    assert min(ratios) <= found.low <= found.median <= found.high <= max(ratios)


def test_a_slow_round_that_hit_both_does_not_count() -> None:
    assert paired_ratio([100, 10, 100], [50, 5, 50]).median == 2


def test_rounds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1, 2], [1, 2, 3])


@pytest.mark.parametrize(("low", "high", "clear"), [(1.1, 1.5, True), (0.6, 0.9, True), (0.9, 1.1, False)])
def test_an_interval_across_parity_is_not_clear(low: float, high: float, clear: bool) -> None:
    assert Ratio((low + high) / 2, low, high).clear is clear
