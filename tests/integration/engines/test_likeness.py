"""Which prompts are taken for nearly the same by their words and the real MiniLM; how often that is wrong stands in the docs."""

import pytest

from federation.engines import catalogue
from federation.engines.likeness import asked, similarity
from federation.services.retrieval import EMBEDDING_ENGINE
from federation.settings import Settings
from tests.integration.engines.prompts import FAR, INDEX, NEAR

THRESHOLD = Settings.model_fields["cached_answer_similarity"].default
# An adverb more, in a long sentence, is less than a vector tells.
WRONG = [(INDEX, INDEX.replace("is restarted while", "is restarted forcibly while"))]


def taken(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    engine = catalogue.embedding(EMBEDDING_ENGINE)
    vectors = engine.embed([asked(said) for pair in pairs for said in pair])
    cosines = (vectors[::2] * vectors[1::2]).sum(axis=1)
    return [pair for pair, cosine in zip(pairs, cosines, strict=True) if similarity(engine, *pair, cosine=cosine) >= THRESHOLD]


def test_of_prompts_that_look_alike_and_ask_something_else_one_in_a_hundred_is_taken_for_the_same() -> None:
    assert len(FAR) == 120
    assert taken(FAR) == WRONG


def test_of_prompts_that_ask_the_same_three_in_four_are_taken_so() -> None:
    found = taken(NEAR)
    assert len(found) / len(NEAR) == pytest.approx(0.76, abs=0.03)
    assert taken([(other, one) for one, other in found]) == [(other, one) for one, other in found], "it holds both ways"
