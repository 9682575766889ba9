"""How many requests a model server has, from what it tells at `/metrics`: vLLM's and llama.cpp's names for it; asks nobody."""

import re
from typing import Final

_OF: Final = ("vllm:num_requests_running", "vllm:num_requests_waiting", "llamacpp:requests_processing", "llamacpp:requests_deferred")
# https://prometheus.io/docs/instrumenting/exposition_formats/, as far as a gauge needs it.
_LINE: Final = re.compile(rf"^({'|'.join(_OF)})(?:\{{[^}}]*\}})?\s+([0-9.eE+]+)", re.MULTILINE)


def depth_of(metrics: str) -> int | None:
    """Return the requests that run or wait; None where this is not told."""
    found = [float(number) for _, number in _LINE.findall(metrics)]
    return int(sum(found)) if found else None
