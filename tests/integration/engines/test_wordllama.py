"""Static embeddings of the installed weights: the words decide, and rare ones more."""

import numpy as np
import pytest

from federation.engines import catalogue
from federation.errors import InvalidInput


@pytest.fixture(scope="module")
def engine():
    return catalogue.embedding("wordllama")


def test_texts_become_unit_vectors_whatever_they_hold(engine) -> None:
    texts = ["connection lost", "", "   ", "日本語 \0 🦦", "word " * 10_000]
    vectors = engine.embed(texts)
    assert vectors.shape == (5, engine.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1, 1], atol=1e-5)
    assert engine.embed([]).shape == (0, engine.dim)
    with pytest.raises(InvalidInput, match="truncate_at"):
        engine.embed(["a"], truncate_at=64)


def test_a_text_has_the_same_vector_in_any_company(engine) -> None:
    texts = ["connection lost", "an otter", "reconnect to the broker"]
    np.testing.assert_allclose(engine.embed(texts), np.concatenate([engine.embed([text]) for text in texts]), atol=1e-6)


def test_what_means_the_same_is_nearer_than_what_does_not(engine) -> None:
    asked, near, far = engine.embed(["repair a broken network connection", "fix the lost socket link", "bake bread with butter"])
    assert asked @ near > asked @ far + 0.1


def test_rare_words_weigh_more_than_common_ones(engine) -> None:
    both, rare, common = engine.embed(["the quaternion", "quaternion", "the"])
    assert both @ rare > both @ common
