"""Our engine beside bare `SentenceTransformer.encode` on the same chunks; prints nothing but what it is doing."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch

from benchmarks.goals import Goal, told, values
from benchmarks.gpu import model
from benchmarks.gpu.corpus import Corpus, cut, standard_library
from benchmarks.gpu.measure import CHUNKS, Cell, Sample, Vectors, Way, in_calls, likeness, measure
from benchmarks.gpu.plans import EXECUTION, Plan
from benchmarks.intervals import paired_ratio
from benchmarks.readings import Reading

OURS: Final = "federation"
FROM_FILES: Final = "federation, from files"
GOAL_PER_S, WHITEPAPER_PER_S, GOAL_RATIO, GOAL_COSINE = 5000.0, 970.0, 0.95, 0.9999
_TYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Files that a process cuts at a time, and chunks that are embedded at once while the next are cut.
_FILES, _AT_ONCE = 16, 2048
# Chunks whose vectors are compared.
_COMPARED: Final = 512


@dataclass(frozen=True)
class Found:
    """What was measured; `likenesses` are the least cosine and the share of nearest neighbours, for each type."""

    corpus: Mapping[str, Any]
    likenesses: Mapping[str, tuple[float, float]]
    readings: Sequence[Reading]
    goals: Sequence[Goal]


class _Loaded:
    """The model in one type, and the ways to embed with it."""

    def __init__(self, folder: Path, device: str, kind: str) -> None:
        self.kind, self._folder = kind, folder
        self._model = model.load(folder, device=device, dtype=_TYPES[kind])

    def ours(self, batch_tokens: int) -> Way:
        """Our engine, with batches of so many tokens."""
        engine = model.engine(self._folder, self._model, batch_tokens)
        return lambda texts: engine.embed(texts, truncate_at=model.WINDOW)

    def bare(self, batch: int) -> Way:
        """The library's own loop, with batches of so many texts."""
        return lambda texts: self._model.encode(list(texts), batch_size=batch, show_progress_bar=False).astype(np.float32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has."""
        return model.engine(self._folder, self._model, 1).count_tokens(texts)


@dataclass(frozen=True)
class _Measured:
    """The chunks with their lengths, of which each table takes some."""

    plan: Plan
    corpus: Corpus
    lengths: Sequence[int]

    def sample(self, chosen: slice) -> Sample:
        """Return some of the chunks."""
        read = [min(length, model.WINDOW) for length in self.lengths[chosen]]
        return Sample(self.corpus.texts[chosen], read, model.operations(read, self.plan.layers))

    @cached_property
    def everything(self) -> Sample:
        """All chunks."""
        return self.sample(slice(None))

    def spread(self, wanted: int) -> Sample:
        """Return about so many chunks, from all over."""
        return self.sample(slice(None, None, max(1, len(self.corpus.texts) // wanted)))


def compare(plan: Plan, folder: Path, vocabulary: Path | None, tell: Callable[[str], None]) -> Found:
    """Make the model in the folder, cut the corpus, and measure."""
    corpus = standard_library(plan.chunks)
    began = time.perf_counter()
    cut(corpus.files)
    cut_s = time.perf_counter() - began
    tell(f"{len(corpus.texts)} chunks of {len(corpus.files)} files cut; making the model")
    model.write(folder, corpus.texts, vocabulary=vocabulary, layers=plan.layers)
    readings: list[Reading] = []
    likenesses: dict[str, tuple[float, float]] = {}
    first = _Loaded(folder, plan.device, plan.types[0])
    measured = _Measured(plan, corpus, first.lengths(corpus.texts))
    # Not forked: neither the GPU nor the tokenizer's threads survive it.
    with ProcessPoolExecutor(plan.cutters, mp_context=get_context("spawn")) as cutters:
        for cell in (_main(first, measured, cutters), _calls(first, measured)):
            readings += measure(cell, plan.rounds, tell)
    for kind in plan.types:
        loaded = first if kind == first.kind else _Loaded(folder, plan.device, kind)
        some = measured.spread(_COMPARED).texts
        likenesses[kind] = likeness(loaded.ours(plan.our_batch_tokens[0])(some), loaded.bare(plan.bare_batches[0])(some))
        if loaded is not first:
            readings += measure(_other(loaded, measured), plan.rounds, tell)
    about = {
        "files": len(corpus.files),
        "chunks": len(corpus.texts),
        "tokens_a_chunk": {
            "mean": round(float(np.mean(measured.everything.lengths)), 1),
            "median": median(measured.everything.lengths),
            "longest": max(measured.lengths),
            "over_the_window": sum(length > model.WINDOW for length in measured.lengths),
        },
        "vocabulary": "that of bert-base-uncased, which BGE has"
        if vocabulary
        else "learned from the chunks, which makes fewer tokens of them than BGE's",
        "cut_by_one_process_per_s": round(len(corpus.texts) / cut_s),
    }
    return Found(about, likenesses, readings, _goals(plan, readings, likenesses))


def _bare(batch: int) -> str:
    return f"bare encode, {batch} a batch"


def _title(kind: str) -> str:
    return f"{kind}, all chunks in one call"


def _calls_title(kind: str) -> str:
    return f"{kind}, {EXECUTION} chunks a call in the order of the files"


def _ours(loaded: _Loaded, plan: Plan) -> dict[str, Way]:
    usual, *others = plan.our_batch_tokens
    return {OURS: loaded.ours(usual)} | {f"{OURS}, {tokens:,} tokens a batch": loaded.ours(tokens) for tokens in others}


def _main(loaded: _Loaded, measured: _Measured, cutters: Executor) -> Cell:
    ways = _ours(loaded, measured.plan)
    ways[FROM_FILES] = _from_files(ways[OURS], measured.corpus.files, cutters)
    return Cell(_title(loaded.kind), measured.everything, ways | {_bare(batch): loaded.bare(batch) for batch in measured.plan.bare_batches})


def _calls(loaded: _Loaded, measured: _Measured) -> Cell:
    ways = _ours(loaded, measured.plan) | {_bare(EXECUTION): loaded.bare(EXECUTION)}
    third = measured.sample(slice(max(1, len(measured.corpus.texts) // 3)))
    return Cell(_calls_title(loaded.kind), third, {name: in_calls(way, EXECUTION) for name, way in ways.items()})


def _other(loaded: _Loaded, measured: _Measured) -> Cell:
    plan = measured.plan
    batch = plan.bare_batches[len(plan.bare_batches) // 2]
    # Tensor cores do not take fp32, so a round of all would be long.
    sample = measured.spread(max(1, plan.chunks // (6 if loaded.kind == "fp32" else 2)))
    return Cell(_title(loaded.kind), sample, {OURS: loaded.ours(plan.our_batch_tokens[0]), _bare(batch): loaded.bare(batch)})


def _from_files(ours: Way, files: Sequence[Path], cutters: Executor) -> Way:
    def batches() -> Iterator[list[str]]:
        waiting: list[str] = []
        for texts in cutters.map(cut, [files[start : start + _FILES] for start in range(0, len(files), _FILES)]):
            waiting += texts
            if len(waiting) >= _AT_ONCE:
                yield waiting
                waiting = []
        yield waiting

    def embed(_: Sequence[str]) -> Vectors:
        return np.concatenate([ours(texts) for texts in batches()])

    return embed


def _goals(plan: Plan, readings: Sequence[Reading], likenesses: Mapping[str, tuple[float, float]]) -> list[Goal]:
    table, calls = _title(plan.types[0]), _calls_title(plan.types[0])

    def rates(where: str, name: str) -> list[float]:
        return values(readings, where, CHUNKS, name)

    best = max((_bare(batch) for batch in plan.bare_batches), key=lambda name: median(rates(table, name)))
    goals = []
    for name in (OURS, FROM_FILES):
        rate = median(rates(table, name))
        goals.append(
            Goal(f"≥ {GOAL_PER_S:,.0f} chunks/s (whitepaper: {WHITEPAPER_PER_S:,.0f})", f"{table}: {name}", f"{rate:,.0f}", rate >= GOAL_PER_S)
        )
    for where, peer in ((table, best), (calls, _bare(EXECUTION))):
        ratio = paired_ratio(rates(where, OURS), rates(where, peer))
        goals.append(Goal(f"≥ {GOAL_RATIO:g} of {peer}", where, told(ratio), ratio.median >= GOAL_RATIO))
    least, nearest = likenesses["fp32"]
    goals.append(
        Goal("the same vectors as bare encode", "fp32", f"cosine ≥ {least:.6f}, {nearest:.0%} nearest", least >= GOAL_COSINE and nearest == 1)
    )
    return goals
