"""Texts to unit vectors with a model of sentence-transformers, on a GPU; a CPU computes them too, and slower than what is made for it.

Nothing is waited for until the last batch is on its way: tokenisation, copies and kernels overlap, and the vectors come back in one copy.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal

from federation.engines.digests import Weights
from federation.engines.text_encoder import Batch, TextEncoder
from federation.errors import EngineUnavailable, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

# More tokens at once only pad more and leave the cache: throughput falls on CPUs.
CPU_BATCH_TOKENS: Final = 1024
# Enough to keep a large GPU busy while Python prepares the next batch; 12 layers of 768 take 1 GiB for it.
GPU_BATCH_TOKENS: Final = 32_768


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model computes, in which type, and how many tokens it takes at once, padding included."""

    name: Literal["cpu", "cuda"]
    dtype: "torch.dtype"
    batch_tokens: int


def device_for(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """Return the device for a setting; `auto` is a GPU where torch sees one.

    Raises ModelUnavailable if a GPU is wanted and there is none.
    """
    # torch takes seconds and 300 MB: only a process that embeds may pay for it.
    import torch  # noqa: PLC0415

    if wanted != "cpu" and torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return Device("cuda", dtype, GPU_BATCH_TOKENS)
    if wanted == "cuda":
        raise ModelUnavailable(
            "FEDERATION_EMBEDDING_DEVICE is cuda, and torch sees no GPU; install a driver and a torch for it, or set auto, which takes the CPU then"
        )
    capabilities = torch.cpu.get_capabilities()
    fast_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return Device("cpu", torch.bfloat16 if fast_bf16 else torch.float32, CPU_BATCH_TOKENS)


class SentenceEncoder(TextEncoder):
    """A loaded model of sentence-transformers."""

    def __init__(self, weights: Weights, model: "SentenceTransformer", *, name: str, dim: int, window: int, batch_tokens: int) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - comes with the model's runner

        # A copy of our own, because calls of sentence-transformers change how theirs cuts and pads.
        tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        super().__init__(weights, tokenizer, name=name, dim=dim, window=window, batch_tokens=batch_tokens)
        self._device = model.device
        self._transformer, *self._heads = model.eval()
        self._padding = int(model.tokenizer.pad_token_id)
        # Two callers with many texts would only take the GPU's memory from each other.
        self._turn = Lock()

    def _many(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        with self._turn:
            return self._few(batches)

    def _few(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415 - a node without models has none
        import torch  # noqa: PLC0415

        try:
            with torch.inference_mode(), self._kernels():
                return np.asarray(torch.cat([self._forward(batch) for batch in batches]).cpu().numpy(), dtype=np.float32)
        except torch.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"{self.name} has no room on the GPU: {error}; free memory on it, or set FEDERATION_EMBEDDING_DEVICE to cpu on this node"
            ) from error

    def _kernels(self) -> AbstractContextManager[None]:
        """Leave out cuDNN's attention on a GPU: it makes a plan for each shape of a batch, and there are many."""
        if self._device.type != "cuda":
            return nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415 - torch comes with the first call

        return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])

    def _to_device(self, values: "NDArray[np.int64]") -> "torch.Tensor":
        import torch  # noqa: PLC0415

        tensor = torch.from_numpy(values)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor

    def _forward(self, rows: Batch) -> "torch.Tensor":
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        lengths = np.array([len(row) for row in rows])
        present = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(present.shape, self._padding, dtype=np.int64)
        ids[present] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        features = {"input_ids": self._to_device(ids), "attention_mask": self._to_device(present.astype(np.int64))}
        # Given in the form that attention wants, because transformers would look into the other one, and wait for the GPU.
        mask = None if present.all() else features["attention_mask"].bool()[:, None, None, :]
        features = self._transformer(features, attention_mask=mask)
        for head in self._heads:
            features = head(features)
        # Models normalise in their own type; bf16 is off unit length by a thousandth, so in fp32 once more.
        return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)
