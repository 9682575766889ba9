"""The verdict on memory."""

import pytest

from benchmarks.soak.flatness import Sample, growths


def samples(*sizes: float) -> list[Sample]:
    return [Sample(number * 100, {"publisher": size, "broker": 80.0}, {}) for number, size in enumerate(sizes, start=1)]


def test_what_grows_in_the_warm_up_alone_is_flat() -> None:
    (growth,) = growths(samples(10, 20, 30, 30, 30.1, 30, 29.9, 30, 30.2, 30), {"publisher": 1.0}, warm_up=0.3)
    assert not growth.too_much
    assert abs(growth.grown_mib) <= 0.2


def test_a_leak_shows_and_only_at_the_part_that_has_it() -> None:
    found = growths(samples(*range(10, 20)), {"publisher": 3.0, "broker": 3.0}, warm_up=0.3)
    assert [(growth.part, growth.too_much) for growth in found] == [("publisher", True), ("broker", False)]


def test_one_peak_is_no_leak() -> None:
    (growth,) = growths(samples(30, 30, 30, 30, 30, 30, 30, 30, 90, 30), {"publisher": 1.0}, warm_up=0.0)
    assert not growth.too_much


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="2 samples"):
        growths(samples(1, 2), {"publisher": 1.0}, warm_up=0.0)
