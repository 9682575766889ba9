"""Texts to unit vectors with a model of sentence-transformers, on the CPU or on a GPU; never asks a hub for anything.

Texts are tokenised a group ahead of the model, outside of Python's lock. On a CPU each core computes a batch of its own, and many texts step
back for whoever else wants the cores, so that a question is answered at once while a tree is embedded; questions that come at the same time are
computed together. On a GPU nothing is waited for until the
last batch is on its way: tokenisation, copies and kernels overlap, and the vectors come back in one copy.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from federation.engines.digests import Weights
from federation.errors import ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable
from federation.together import Together

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

# More tokens at once only pad more and leave the cache: throughput falls on CPUs.
CPU_BATCH_TOKENS: Final = 1024
# Enough to keep a large GPU busy while Python prepares the next batch; 12 layers of 768 take 1 GiB for it.
GPU_BATCH_TOKENS: Final = 32_768
# On a CPU lengths are rounded up to it, because the runner keeps some memory for each shape of a batch that it has seen.
_LENGTH_STEP: Final = 16
# Texts that are tokenised at once, while the model computes those before them.
_GROUP: Final = 1024
# So few texts are a question: who asks waits for nobody.
_FEW: Final = 4
# More threads than that would wait for Python's lock.
_MOST_THREADS: Final = 8
# How far many texts step back, as `nice` counts.
_STEPS_BACK: Final = 10


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


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices, short texts first, so that a batch holds at most `batch_tokens` with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


# The tokens of texts that are computed together.
_Batch: TypeAlias = Sequence[list[int]]


def _step_back() -> None:
    # Of this thread alone, which only Linux knows.
    if sys.platform == "linux":
        os.nice(_STEPS_BACK)


class SentenceEncoder:
    """A loaded model; its tokenizer puts one token before a text and one behind it, as those of the BERT family do."""

    def __init__(self, weights: Weights, model: "SentenceTransformer", *, name: str, dim: int, window: int, batch_tokens: int) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - comes with the model's runner

        self.name, self.dim, self.window, self._batch_tokens = name, dim, window, batch_tokens
        self._weights = weights
        self._device = model.device
        self._transformer, *self._heads = model.eval()
        # A copy of our own, because calls of sentence-transformers change how theirs cuts and pads.
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._padding = int(model.tokenizer.pad_token_id)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._together = Together(self._questions)
        # Two callers with many texts would only take the GPU's memory from each other.
        self._turn = Lock()
        # On a CPU each takes a core, because a small model gains little from several for one batch.
        self._cores: ThreadPoolExecutor | None = None
        if self._device.type == "cpu":
            threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
            self._cores = ThreadPoolExecutor(threads, thread_name_prefix="embed", initializer=_step_back)

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._weights.digest

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, with the two that the model adds."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), dim); `truncate_at` (3 tokens up to the window) cuts longer texts instead of refusing them.

        Raises ContextLengthError if a text is longer than the window and `truncate_at` is None, EngineUnavailable if the GPU has no room.
        """
        import numpy as np  # noqa: PLC0415 - a node without models has none
        import torch  # noqa: PLC0415

        if truncate_at is not None and not 3 <= truncate_at <= self.window:
            raise InvalidInput("truncate_at", truncate_at, f"3 to {self.window} tokens, or None to refuse longer texts")
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        try:
            with torch.inference_mode(), self._kernels():
                if len(texts) <= _FEW:
                    return self._vectors(texts, truncate_at, self._question)
                if self._cores is not None:
                    return self._vectors(texts, truncate_at, partial(self._spread, self._cores))
                with self._turn:
                    return self._vectors(texts, truncate_at, self._forwards)
        except torch.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"{self.name} has no room on the GPU: {error}; free memory on it, or set FEDERATION_EMBEDDING_DEVICE to cpu on this node"
            ) from error

    def _vectors(
        self, texts: Sequence[str], truncate_at: int | None, compute: "Callable[[Iterable[_Batch]], list[torch.Tensor]]"
    ) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        order: list[int] = []
        vectors = compute(self._batched(texts, truncate_at, order))
        places = self._to_device(np.argsort(order))
        return np.asarray(torch.cat(vectors)[places].cpu().numpy(), dtype=np.float32)

    def _batched(self, texts: Sequence[str], truncate_at: int | None, order: list[int]) -> Iterator[list[list[int]]]:
        """Yield the tokens of texts a batch at a time, and note in `order` which texts these are."""
        limit = truncate_at or self.window
        # The longest first, so that most texts over the window are refused before anything is computed.
        by_length = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        groups = [by_length[start : start + _GROUP] for start in range(0, len(by_length), _GROUP)]

        def tokenized(group: list[int]) -> list[Any]:
            return list(self._tokenizer.encode_batch_fast([texts[index] for index in group]))

        # Of one group nothing is ahead, and nobody else's is waited for.
        ahead = self._ahead.map(tokenized, groups) if len(groups) > 1 else map(tokenized, groups)
        for group, encodings in zip(groups, ahead, strict=True):
            lengths = [len(encoding) for encoding in encodings]
            if truncate_at is None and max(lengths) > self.window:
                raise ContextLengthError(max(lengths), self.window)
            for batch in _batches([self._padded(length, limit) for length in lengths], self._batch_tokens):
                order += [group[index] for index in batch]
                yield [self._cut(encodings[index].ids, limit) for index in batch]

    def _forwards(self, batches: Iterable[_Batch]) -> "list[torch.Tensor]":
        return [self._forward(batch) for batch in batches]

    def _question(self, batches: Iterable[_Batch]) -> "list[torch.Tensor]":
        """Compute a question with whatever others came meanwhile: of several at once each would only take the cores from the others."""
        return [self._together(list(chain.from_iterable(batches)))]

    def _questions(self, asked: Sequence[_Batch]) -> "list[torch.Tensor]":
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        tokens = list(chain.from_iterable(asked))
        # Those of a length together, because short ones would be padded to long ones.
        batches = list(_batches([self._padded(len(row), self.window) for row in tokens], self._batch_tokens))
        computed = torch.cat(self._forwards([tokens[row] for row in batch] for batch in batches))
        vectors = computed[self._to_device(np.argsort(list(chain.from_iterable(batches))))]
        return list(torch.split(vectors, [len(question) for question in asked]))

    def _spread(self, cores: ThreadPoolExecutor, batches: Iterable[_Batch]) -> "list[torch.Tensor]":
        import torch  # noqa: PLC0415

        def forward(batch: _Batch) -> torch.Tensor:
            # Each thread says so for itself.
            with torch.inference_mode():
                return self._forward(batch)

        return list(cores.map(forward, batches))

    @staticmethod
    def _cut(ids: list[int], limit: int) -> list[int]:
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

    def _padded(self, length: int, limit: int) -> int:
        return min(limit, -(-length // _LENGTH_STEP) * _LENGTH_STEP if self._cores else length)

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

    def _forward(self, rows: _Batch) -> "torch.Tensor":
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        lengths = np.array([len(row) for row in rows])
        present = np.arange(self._padded(int(lengths.max()), self.window)) < lengths[:, None]
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
