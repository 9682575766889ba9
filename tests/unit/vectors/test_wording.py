"""Words that chunks are found by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.vectors.wording import count_words, count_words_of_lines, parts_of, query_text, searchable_text, split_words


@pytest.mark.parametrize(
    ("identifier", "parts"),
    [
        ("ensure_connection", ["ensure", "connection"]),
        ("maybeDeclare", ["maybe", "declare"]),
        ("HTTPServer2", ["http", "server", "2"]),
        ("__init__", ["init"]),
        ("MAX_RETRIES", ["max", "retries"]),
        ("größe_Übersicht", ["größe", "übersicht"]),
    ],
)
def test_identifier_splits_into_words(identifier: str, parts: list[str]) -> None:
    assert parts_of(identifier) == parts


def test_searchable_text_has_the_parts_and_the_whole_identifier() -> None:
    words = searchable_text("kombu/connection.py", "Connection.ensure", "self.ensure_connection()").split()
    assert {"kombu", "connection", "ensure", "self", "ensure_connection"} <= set(words)


@given(st.text(max_size=200))
def test_question_becomes_words_without_any_syntax(text: str) -> None:
    assert all(word.replace("_", "").isalnum() for word in query_text(text).split())
    assert set(split_words(text).split()) <= set(query_text(text).split())


@given(st.lists(st.one_of(st.text(st.sampled_from("aBC1_ .-\r\t"), max_size=30), st.text(max_size=20).map(lambda text: text.replace("\n", "")))))
def test_lines_have_as_many_words_together_as_each_alone(lines: list[str]) -> None:
    assert count_words_of_lines(lines) == [count_words(line) for line in lines]
