"""Which prompts may ask the same by their words, and in which places they differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.engines.likeness import apart, asked

LITTLE: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("What is the capital of France?", "what's the capital of france", []),
    ("What is the capital of France?", "Please tell me the capital of France.", []),
    ("How do I restart the worker?", "How can I restart workers?", []),
    ("Why is port 5432 taken?", "Why was the port 5432 taken", []),
    ("Translate 'good morning' into German.", "Please translate “good morning” into German!", []),
    ("Don't say why.", "Do not say why.", []),
    ("The tests passed. Say why.", "The tests passed. Thank you! Say why.", []),
    (
        "What is the capital of France?",
        "Which city is the capital of France?",
        [("What is the capital of France?", "Which city is the capital of France?")],
    ),
    (
        "The build of the broker failed last night, and nobody knows why.",
        "The whole build of the broker failed last night, and nobody really knows why.",
        [
            ("The build of the broker failed last", "The whole build of the broker failed last"),
            ("last night, and nobody knows why.", "last night, and nobody really knows why."),
        ],
    ),
]
MUCH: list[tuple[str, str]] = [
    ("What is the capital of France?", "What is the capital of Spain?"),
    ("Why is port 5432 taken?", "Why is port 5433 taken?"),
    ("Give me three names.", "Give me five names."),
    ("Is X safe?", "Is X not safe?"),
    ("Is X safe?", "Isn't X safe?"),
    ("Is X safe?", "Is Y safe?"),
    ("Is it safe?", "Is it unsafe?"),
    ("How do I start the worker?", "How do I stop the worker?"),
    ("Does alembic need sqlalchemy?", "Does sqlalchemy need alembic?"),
    ("What runs before the commit?", "What runs after the commit?"),
    ("Is the worker alive?", "Why is the worker alive?"),
    ("List the nodes.", "List the nodes of Ada."),
    ("List the nodes.", "List the nodes of v2."),
    ("Translate 'good morning' into German.", "Translate 'good evening' into German."),
    ("What does `rm -r` do?", "What does `rm -rf` do?"),
    ("Is a < b?", "Is a > b?"),
    ("What is 3 squared?", "What is -3 squared?"),
    ("What is .5 squared?", "What is 5 squared?"),
    ("What is x[1]?", "What is x(1)?"),
    ("Is !a true?", "Is a true?"),
    ("What does -v do?", "What does --v do?"),
    ("How many people live there?", "How many people live in the US?"),
    ("Who is there?", "Who is there, Will?"),
    ("What is 12 + 30?", "What is 12 - 30?"),
    ("Name the city.", "Name the city and the river."),
    ("What is it?", "What was that?"),
    ("", "What?"),
]


@pytest.mark.parametrize(("one", "other", "places"), LITTLE)
def test_prompts_that_differ_in_words_that_turn_nothing_may_ask_the_same(one: str, other: str, places: list[tuple[str, str]]) -> None:
    assert apart(one, other) == places
    assert apart(other, one) == [(right, left) for left, right in places]


@pytest.mark.parametrize(("one", "other"), MUCH)
def test_another_number_name_denial_order_or_word_asks_something_else(one: str, other: str) -> None:
    assert (apart(one, other), apart(other, one)) == (None, None)


@given(st.text(max_size=60), st.text(max_size=60))
def test_it_holds_both_ways_for_any_text(one: str, other: str) -> None:
    places = apart(one, other)
    assert apart(other, one) == (places and [(right, left) for left, right in places])
    assert apart(one, one) in (None, [])


def test_a_question_without_its_mark_is_compared_as_one() -> None:
    said = ["what is it", " What is it? ", "Say why", "why (or when)"]
    assert [asked(each) for each in said] == ["what is it?", "What is it?", "Say why", "why (or when)"]
