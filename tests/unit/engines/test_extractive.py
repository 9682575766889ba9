"""Choice of sentences over plain arrays; the vectors are made, because the rule is about geometry only."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from federation.engines.extractive import Extract, pick, summarise
from federation.errors import InvalidInput


def unit(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float32)
    normed: NDArray[np.float32] = array / np.linalg.norm(array, axis=1, keepdims=True)
    return normed


def test_central_rows_win_over_an_outlier() -> None:
    assert 3 not in pick(unit([[1, 0.1], [1, 0], [0.9, 0.2], [-1, 0]]), limit=3, diversity=0.0)


def test_repeated_row_gives_way_to_another_subject() -> None:
    assert pick(unit([[1, 0, 0], [1, 0, 0], [0.6, 0.8, 0]]), limit=2, diversity=0.5) == [0, 2]


def test_rows_that_must_stay_stay_and_count() -> None:
    assert pick(unit([[-1, 0], [1, 0], [1, 0.1]]), limit=2, always=[0])[0] == 0


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.floats(-1, 1, width=32)), st.integers(1, 15))
def test_picked_rows_are_distinct_ascending_and_within_the_limit(vectors: NDArray[np.float32], limit: int) -> None:
    picked = pick(vectors, limit=limit)
    assert picked == sorted(set(picked))
    assert len(picked) == min(limit, len(vectors))


def never(texts: Sequence[str]) -> NDArray[np.float32]:
    raise AssertionError(f"a talk that is short enough needs no vectors: {texts}")


def test_short_talk_is_its_own_summary() -> None:
    assert summarise(["Hello there.", "We begin now."], never, max_sentences=5) == [Extract(0, "Hello there."), Extract(1, "We begin now.")]


def test_talk_without_words_has_an_empty_summary() -> None:
    assert summarise(["", "  "], never, max_sentences=3) == []


def test_summary_of_no_sentences_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_sentences: got 0"):
        summarise(["Hello."], never, max_sentences=0)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("x" * 100_000, "x" * 399 + "…"),
        ("yes " * 25_000, "yes " * 98 + "yes…"),
        ("y" * 400, "y" * 400),
    ],
)
def test_a_sentence_that_does_not_end_is_cut(message: str, sentence: str) -> None:
    assert summarise([message], never, max_sentences=5) == [Extract(0, sentence)]


def alike(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.ones((len(texts), 1), dtype=np.float32)


def test_what_several_say_in_the_same_words_is_picked_once() -> None:
    told = ["We begin with the numbers.", *("We measured it on Tuesday with Grace.", "we measured it on Tuesday, with Grace!") * 3]
    assert summarise(told, alike, max_sentences=3) == [Extract(0, told[0]), Extract(1, told[1])]


def test_a_short_talk_keeps_what_two_say_in_the_same_words() -> None:
    assert summarise(["Shall we?", "Yes.", "Yes."], never, max_sentences=3) == [Extract(0, "Shall we?"), Extract(1, "Yes."), Extract(2, "Yes.")]
