"""The encoder of texts: groups and batches change no vector, a question waits for no tree, and no torch is needed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.engines import text_encoder
from federation.engines.contracts import EmbeddingEngine
from federation.errors import ContextLengthError

TEXTS = [f"{'word ' * length}number {length}" for length in (40, 3, 0, 17, 90, 5, 17)]


def test_many_groups_and_small_batches_give_the_vectors_of_each_text_alone(minilm: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    monkeypatch.setattr(text_encoder, "_GROUP", 3)
    monkeypatch.setattr(minilm, "_batch_tokens", 64)
    np.testing.assert_allclose((minilm.embed(TEXTS) * alone).sum(axis=1), 1.0, atol=1e-3)


def test_question_is_answered_while_many_texts_are_computed(minilm: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go, forward = Event(), Event(), minilm._forward

    def held(runner: object, rows: list[list[int]]) -> NDArray[np.float32]:
        if len(rows) > 1:
            began.set()
            assert go.wait(60)
        return forward(runner, rows)

    monkeypatch.setattr(minilm, "_forward", held)
    with ThreadPoolExecutor(2) as others:
        tree = [others.submit(minilm.embed, TEXTS * 3) for _ in range(2)]
        try:
            assert began.wait(60)
            assert minilm.embed(["where is it"]).shape == (1, minilm.dim)
            assert not any(one.done() for one in tree)
        finally:
            go.set()
        np.testing.assert_array_equal(tree[0].result(), tree[1].result())


def test_questions_that_come_meanwhile_are_computed_together_and_answered_each_with_its_own(
    minilm: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [f"where is {'the ' * number}door {number}" for number in range(12)]
    alone = np.concatenate([minilm.embed([question]) for question in questions])
    began, go, forward, computed = Event(), Event(), minilm._forward, []

    def held(runner: object, rows: list[list[int]]) -> NDArray[np.float32]:
        computed.append(len(rows))
        began.set()
        assert go.wait(60)
        return forward(runner, rows)

    monkeypatch.setattr(minilm, "_forward", held)
    with ThreadPoolExecutor(len(questions)) as askers:
        asked = [askers.submit(minilm.embed, [question]) for question in questions]
        try:
            assert began.wait(60)
            while len(minilm._together._waiting) < len(questions) - computed[0]:
                assert not any(one.done() for one in asked)
        finally:
            go.set()
        found = np.concatenate([one.result() for one in asked])
    np.testing.assert_allclose((found * alone).sum(axis=1), 1.0, atol=1e-3)
    assert sum(computed) == len(questions)
    assert len(computed) < len(questions)


def test_engine_that_fails_fails_for_all_who_ask_and_for_nobody_after(minilm: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(runner: object, rows: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(minilm, "_forward", broken)
        with ThreadPoolExecutor(4) as askers:
            for asked in [askers.submit(minilm.embed, ["text"]) for _ in range(8)]:
                with pytest.raises(RuntimeError, match="broken"):
                    asked.result()
    assert minilm.embed(["text"]).shape == (1, minilm.dim)


def test_too_long_text_is_refused_in_whichever_group_it_is(minilm: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "_GROUP", 1)
    # Fewer letters than the first, and more tokens.
    with pytest.raises(ContextLengthError, match="302 tokens"):
        minilm.embed(["internationalisation" * 40, "a " * 300])
    assert minilm.embed(["short"]).shape == (1, minilm.dim)


def test_a_process_that_embeds_on_the_cpu_imports_no_torch() -> None:
    program = "import sys; from federation.engines import catalogue; print(catalogue.embedding().embed(['a text']).shape, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 384) False\n", done.stderr
