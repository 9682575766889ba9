"""ROUGE-1 counts shared words, and the texts of the benchmark are long ones that their authors have summarised."""

import pytest

from benchmarks.summaries.corpus import FEWEST_SENTENCES, documents
from benchmarks.summaries.rouge import Rouge1, rouge_1
from federation.engines.sentences import sentences_of


def test_rouge_1_counts_each_word_as_often_as_both_have_it() -> None:
    found = rouge_1("The cat, the dog.", "the cat sat on the mat")
    assert found.recall == pytest.approx(3 / 6)
    assert found.f1 == pytest.approx(2 * (3 / 6) * (3 / 4) / (3 / 6 + 3 / 4))
    assert rouge_1("the cat", "The CAT!") == Rouge1(1.0, 1.0)
    assert rouge_1("", "the cat") == rouge_1("dog", "cat") == Rouge1(0.0, 0.0)


def test_texts_are_long_and_the_same_at_each_run() -> None:
    found = documents(20)
    assert found == documents(20)
    assert len({document.place for document in found}) == 20
    for document in found:
        assert document.summary not in document.paragraphs
        assert sum(len(sentences_of(paragraph)) for paragraph in document.paragraphs) >= FEWEST_SENTENCES
