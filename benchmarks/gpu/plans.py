"""How much is measured, and in which ways; measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.gpu import model
from federation.engines.sentence_encoder import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS

# As many chunks as one execution of the indexer embeds.
EXECUTION: Final = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, on which device; the first of `types` and of `our_batch_tokens` are those that an engine takes by itself."""

    device: str
    chunks: int
    rounds: int
    layers: int
    cutters: int
    types: Sequence[str]
    our_batch_tokens: Sequence[int]
    bare_batches: Sequence[int]


def on_gpu(chunks: int, rounds: int, cores: int) -> Plan:
    """Return what a GPU is measured by; files are cut by up to four processes."""
    tokens = (GPU_BATCH_TOKENS, GPU_BATCH_TOKENS // 2, GPU_BATCH_TOKENS * 2)
    return Plan("cuda", chunks, rounds, model.LAYERS, max(1, min(4, cores // 2)), ("bf16", "fp16", "fp32"), tokens, (32, 128, 512))


def quick(device: str) -> Plan:
    """Return what shows within seconds that all of it runs: one layer and some chunks."""
    return Plan(device, 12, 1, 1, 1, ("fp32",), (CPU_BATCH_TOKENS,), (8,))
