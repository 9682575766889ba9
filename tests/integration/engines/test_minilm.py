"""all-MiniLM-L6-v2 on its real weights."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from federation.engines import catalogue
from federation.engines.contracts import EmbeddingEngine
from federation.engines.minilm import WINDOW
from federation.errors import ContextLengthError, InvalidInput

TEXTS = [
    "how does a connection retry when the broker is away",
    "def ensure_connection(self, errback=None, max_retries=None): ...",
    "ä",
    "",
    "The mailbox answers remote control commands. " * 10,
]

# By sentence-transformers 6.2.0 in fp32 on the same weights.
REFERENCE_LIKENESS = [
    [1.0, 0.420, -0.030, -0.045, -0.024],
    [0.420, 1.0, 0.051, 0.003, -0.086],
    [-0.030, 0.051, 1.0, 0.415, -0.006],
    [-0.045, 0.003, 0.415, 1.0, -0.013],
    [-0.024, -0.086, -0.006, -0.013, 1.0],
]
# What steps of 8 bits need, with AVX2 as with AVX-512: .017, and .032 between «ä» and the empty text, which have one token and none, so that nothing
# evens out by how much each is off.
ROOM = np.full((len(TEXTS), len(TEXTS)), 0.018)
ROOM[2, 3] = ROOM[3, 2] = 0.033
REFERENCE_START = [
    [0.0130, -0.0430, -0.0334, 0.0797],
    [-0.0202, -0.0380, -0.0880, 0.0174],
    [-0.0364, 0.0347, -0.0460, 0.0343],
    [-0.1188, 0.0483, -0.0025, -0.0110],
    [0.0467, -0.0722, 0.0905, 0.0155],
]


def test_vectors_are_of_unit_length_and_in_the_order_of_the_texts(minilm: EmbeddingEngine) -> None:
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), minilm.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert float(minilm.embed([text])[0] @ vector) > 0.999


def test_vectors_agree_with_sentence_transformers(minilm: EmbeddingEngine) -> None:
    vectors = minilm.embed(TEXTS)
    assert (np.abs(vectors @ vectors.T - REFERENCE_LIKENESS) < ROOM).all()
    np.testing.assert_allclose(vectors[:, :4], REFERENCE_START, atol=0.0125)


def test_nothing_to_embed_gives_no_rows(minilm: EmbeddingEngine) -> None:
    assert minilm.embed([]).shape == (0, minilm.dim)


def test_text_over_the_window_is_refused_with_both_numbers(minilm: EmbeddingEngine) -> None:
    with pytest.raises(ContextLengthError) as refusal:
        minilm.embed(["short", "word " * 300])
    assert (refusal.value.tokens, refusal.value.window) == (302, WINDOW)


def test_text_that_just_fits_the_window_is_embedded(minilm: EmbeddingEngine) -> None:
    assert minilm.embed(["word " * (WINDOW - 2)]).shape == (1, minilm.dim)


def test_long_text_is_cut_only_when_the_caller_says_where(minilm: EmbeddingEngine) -> None:
    cut, whole = minilm.embed(["word " * 300], truncate_at=10), minilm.embed(["word " * 8])
    np.testing.assert_allclose(cut, whole, atol=0.02)


@pytest.mark.parametrize("limit", [2, WINDOW + 1])
def test_cut_outside_of_the_window_is_refused(minilm: EmbeddingEngine, limit: int) -> None:
    with pytest.raises(InvalidInput, match=f"truncate_at: got {limit}"):
        minilm.embed(["text"], truncate_at=limit)


def test_threads_share_the_model(minilm: EmbeddingEngine) -> None:
    expected = minilm.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: minilm.embed(TEXTS), range(8)):
            np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_digest_is_that_of_the_published_weights(minilm: EmbeddingEngine) -> None:
    assert minilm.digest().startswith("53aa5117")
    assert minilm.digest().endswith("28d9db")


def test_second_load_returns_the_same_model(minilm: EmbeddingEngine) -> None:
    assert catalogue.embedding("all-MiniLM-L6-v2") is minilm


def test_texts_may_be_counted_while_others_are_embedded(minilm: EmbeddingEngine) -> None:
    texts = [f"{'word ' * length}end" for length in range(24)]
    counted = minilm.count_tokens(texts)
    with ThreadPoolExecutor(4) as pool:
        embedding = [pool.submit(minilm.embed, texts) for _ in range(2)]
        counting = [pool.submit(minilm.count_tokens, texts) for _ in range(2000)]
        assert all(future.result() == counted for future in counting)
        assert all(future.result().shape == (len(texts), minilm.dim) for future in embedding)
