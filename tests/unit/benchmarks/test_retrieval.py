"""The questions that the search is measured by, and their scores."""

from collections import Counter
from importlib.metadata import distribution

import pytest

from benchmarks.retrieval.measure import Answer, Score, Way, score
from benchmarks.retrieval.questions import Part, Question, load


def test_each_question_names_a_file_of_its_package() -> None:
    for question in load():
        assert question.file.startswith(f"{question.package}/")
        assert distribution(question.package).locate_file(question.file).is_file(), question


def test_both_parts_have_as_many_questions_of_each_package_and_none_twice() -> None:
    questions = load()
    assert len({question.text for question in questions}) == len(questions) == 120
    halves = [Counter(question.package for question in questions if question.part is part) for part in Part]
    assert halves[0] == halves[1] == {"kombu": 20, "celery": 20, "fastmcp": 10, "alembic": 10}


def test_score_counts_first_among_three_and_mean_reciprocal_rank() -> None:
    question = Question(Part.CONTROL, "kombu", "where", "kombu/a.py")
    answers = [Answer(question, Way.HYBRID, rank, 1.0) for rank in (1, 2, 4, None)] + [Answer(question, Way.TEXT, 1, 1.0)]
    assert score(answers, Way.HYBRID) == Score(0.25, 0.5, pytest.approx((1 + 1 / 2 + 1 / 4) / 4))
    assert score(answers, Way.TEXT) == Score(1.0, 1.0, 1.0)
