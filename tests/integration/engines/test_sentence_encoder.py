"""The runner of embedding models on a GPU: its vectors are those of the CPU, and the device is the one that is asked for."""

import numpy as np
import pytest
import torch

from federation.engines import minilm as model
from federation.engines.contracts import EmbeddingEngine
from federation.engines.sentence_encoder import CPU_BATCH_TOKENS, SentenceEncoder, device_for
from federation.errors import EngineUnavailable, ModelUnavailable

with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")


@pytest.fixture(scope="module")
def on_torch() -> SentenceEncoder:
    return model.on_torch(model.checked(), device_for("auto"))


def test_vectors_of_torch_and_of_the_cpu_may_be_compared(minilm: EmbeddingEngine, on_torch: SentenceEncoder) -> None:
    texts = [f"{'word ' * length}number {length}" for length in (40, 3, 0, 17, 90, 5, 17)]
    both = (minilm.embed(texts) * on_torch.embed(texts)).sum(axis=1)
    assert both.min() > 0.98
    # Each its own.
    np.testing.assert_array_equal((minilm.embed(texts) @ on_torch.embed(texts).T).argmax(axis=1)[:6], [0, 1, 2, 3, 4, 5])


def test_gpu_without_room_says_so_and_may_be_tried_again(on_torch: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(rows: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 1 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(on_torch, "_forward", full)
        with pytest.raises(EngineUnavailable, match=r"no room on the GPU: tried to allocate 1 GiB; .*FEDERATION_EMBEDDING_DEVICE"):
            on_torch.embed(["text"])
    assert on_torch.embed(["text"]).shape == (1, on_torch.dim)


@without_gpu
def test_without_a_gpu_the_cpu_is_taken_unless_a_gpu_is_demanded() -> None:
    assert (device_for("auto").name, device_for("auto").batch_tokens) == ("cpu", CPU_BATCH_TOKENS)
    assert device_for("cpu") == device_for("auto")
    with pytest.raises(ModelUnavailable, match="FEDERATION_EMBEDDING_DEVICE is cuda, and torch sees no GPU"):
        device_for("cuda")


@with_gpu
def test_with_a_gpu_it_is_taken_unless_the_cpu_is_demanded() -> None:
    assert device_for("auto").name == device_for("cuda").name == "cuda"
    assert device_for("cpu").name == "cpu"
