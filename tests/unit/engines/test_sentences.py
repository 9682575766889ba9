"""Splitting of chat messages into sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.engines.sentences import sentences_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("The build is red. Who looks at it?", ["The build is red.", "Who looks at it?"]),
        ("Look at kombu.pidbox and settings.py in 5.7.0 first.", ["Look at kombu.pidbox and settings.py in 5.7.0 first."]),
        ("First\nsecond line", ["First", "second line"]),
        ("- one thing\n- another thing", ["one thing", "another thing"]),
        ("`ack()` comes late. `nack()` never comes.", ["`ack()` comes late.", "`nack()` never comes."]),
        ("Before.\n```python\nx = 1. \nY()\n```\nAfter.", ["Before.", "After."]),
        ("```\nonly = code\n```", ["only = code"]),
        ("", []),
        ("   \n ", []),
    ],
)
def test_message_splits_at_ends_of_sentences_only(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_abbreviation_does_not_end_a_sentence() -> None:
    assert sentences_of("Use a lease, e.g. Ours with a token. It lapses.") == ["Use a lease, e.g. Ours with a token.", "It lapses."]


@given(st.text(max_size=300))
def test_any_text_splits_into_sentences_without_blanks_around(text: str) -> None:
    for sentence in sentences_of(text):
        assert sentence
        assert sentence == sentence.strip()
