"""Texts to unit vectors with CTranslate2 on the processor, weights and products in whole steps of 8 bits; needs no torch.

Many texts are computed a batch on each core, in threads of a lower priority; a question waits for none of them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from federation.engines.digests import Weights
from federation.engines.text_encoder import Batch, TextEncoder
from federation.errors import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# More tokens at once only pad more and leave the cache.
BATCH_TOKENS: Final = 1024
# More threads than that would wait for Python's lock.
_MOST_THREADS: Final = 8
# How far many texts step back, as `nice` counts.
_STEPS_BACK: Final = 10


def _step_back() -> None:
    # Of this thread and those that it starts, which only Linux knows.
    if sys.platform == "linux":
        os.nice(_STEPS_BACK)


def _converted(folder: Path) -> dict[str, bytes]:
    """Return the files of CTranslate2's form of a model. Raises ModelUnavailable."""
    with tempfile.TemporaryDirectory(prefix="federation-model-") as made:
        command = [sys.executable, "-m", "federation.engines.bert_in_steps", str(folder), made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        if done.returncode:
            raise ModelUnavailable(f"{folder} could not be converted for CTranslate2 (exit status {done.returncode}): {done.stderr[-2000:]}")
        return {path.name: path.read_bytes() for path in Path(made).iterdir()}


class CpuEncoder(TextEncoder):
    """A model of the BERT family whose vectors are the means of those of a text's tokens."""

    def __init__(self, weights: Weights, *, name: str, dim: int, window: int, threads: int) -> None:
        from ctranslate2 import Encoder  # noqa: PLC0415 - only a process that embeds has it
        from tokenizers import Tokenizer  # noqa: PLC0415

        folder = weights.path.parent
        super().__init__(weights, Tokenizer.from_file(str(folder / "tokenizer.json")), name=name, dim=dim, window=window, batch_tokens=BATCH_TOKENS)
        files = _converted(folder)
        made = partial(Encoder, name, device="cpu", compute_type="int8_float32", files=files)
        self._at_once = made(inter_threads=1, intra_threads=threads)
        cores = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        # Its threads are as far back as the one that makes it.
        with ThreadPoolExecutor(1, initializer=_step_back) as behind:
            self._behind = behind.submit(made, inter_threads=cores, intra_threads=1).result()
        self._cores = ThreadPoolExecutor(cores, thread_name_prefix="embed", initializer=_step_back)

    def _few(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415 - a node without models has none

        return np.concatenate([self._forward(self._at_once, batch) for batch in batches])

    def _many(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415

        return np.concatenate(list(self._cores.map(partial(self._forward, self._behind), batches)))

    @staticmethod
    def _forward(runner: Any, rows: Batch) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415
        from ctranslate2 import StorageView  # noqa: PLC0415

        lengths = np.array([len(row) for row in rows], dtype=np.int32)
        present = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(present.shape, dtype=np.int32)
        ids[present] = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
        computed = runner.forward_batch(StorageView.from_array(ids), StorageView.from_array(lengths))
        # Of each text's tokens the sum, whose direction is that of the mean.
        summed = np.matmul(present[:, None, :].astype(np.float32), np.array(computed.last_hidden_state))[:, 0]
        return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), dtype=np.float32)
