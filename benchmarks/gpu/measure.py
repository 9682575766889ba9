"""Interleaved rounds: each embeds the same chunks in each way once, one way after the other; knows neither models nor goals."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.readings import Reading

Vectors = NDArray[np.float32]
Way = Callable[[Sequence[str]], Vectors]
CHUNKS, TOKENS, TFLOPS, PEAK = "chunks_per_s", "tokens_per_s", "tflop_per_s", "peak_gib"


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts, how many tokens the model reads of each, and the floating-point operations that all take without padding."""

    texts: Sequence[str]
    lengths: Sequence[int]
    operations: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Texts that are embedded in several ways, which are compared with one another."""

    table: str
    sample: Sample
    ways: Mapping[str, Way]


def in_calls(way: Way, at_once: int) -> Way:
    """Return a way that is called with so many texts at a time, in their order."""
    return lambda texts: np.concatenate([way(texts[start : start + at_once]) for start in range(0, len(texts), at_once)])


def measure(cell: Cell, rounds: int, tell: Callable[[str], None]) -> list[Reading]:
    """Return what each round gave; the first warms up and does not count."""
    readings: list[Reading] = []
    names = list(cell.ways)
    for number in range(rounds + 1):
        tell(f"{cell.table}: " + (f"round {number} of {rounds}" if number else "warming up"))
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            vectors = cell.ways[name](cell.sample.texts)
            took_s = time.perf_counter() - began
            wanted = len(cell.sample.texts)
            if len(vectors) != wanted or not np.isfinite(vectors).all():
                raise ValueError(f"{cell.table}, {name}: {len(vectors)} vectors of {wanted} texts, or some that are no numbers")
            if number:
                rates = {CHUNKS: wanted / took_s, TOKENS: sum(cell.sample.lengths) / took_s, TFLOPS: cell.sample.operations / took_s / 1e12}
                peak = {PEAK: torch.cuda.max_memory_allocated() / 2**30} if torch.cuda.is_available() else {}
                readings += [Reading(cell.table, measure, name, number, value) for measure, value in (rates | peak).items()]
    return readings


def likeness(ours: Vectors, bare: Vectors) -> tuple[float, float]:
    """Return the least cosine of a text's two vectors, and how many of ours have the same text's as the nearest of the bare ones."""
    rows = bare / np.linalg.norm(bare, axis=1, keepdims=True)
    cosines = ours @ rows.T
    return float(cosines.diagonal().min()), float((cosines.argmax(axis=1) == np.arange(len(ours))).mean())
