"""Indexes the standard library of CPython, through the queue and in this process, and asks its docstrings: `python -m benchmarks.code_search --help`.

Exit code 0 when it was measured, whether or not the goals held.
"""

import os
import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.code_search import corpus, quality, through_queue
from benchmarks.goals import Goal, show_goals
from benchmarks.run import keep
from benchmarks.running import running

# The goals of recall are about so many chunks.
_MANY = 30_000
# And those of speed about 18 MB.
_WHOLE_BYTES = 17_000_000

Megabytes = Annotated[float, typer.Option("--mb", min=0.1, help="How much of the library is indexed, in 1,000,000 bytes.")]
ModelMegabytes = Annotated[float, typer.Option("--model-mb", min=0.01, help="How much of it MiniLM embeds in this process; 18 take half an hour.")]
Questions = Annotated[int, typer.Option(min=1, help="How many docstrings are asked.")]
Watch = Annotated[float, typer.Option("--watch", min=1, help="Seconds for which the embedding in the background is waited for at most.")]
NoQueue = Annotated[bool, typer.Option("--no-queue", help="Only what is measured in this process.")]
QueueOnly = Annotated[bool, typer.Option("--queue-only", help="Only what goes through the queue; nothing is written to a file.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")]


def code_search(
    *,
    megabytes: Megabytes = 18.0,
    model_megabytes: ModelMegabytes = 2.0,
    questions: Questions = 1000,
    watch: Watch = 330.0,
    no_queue: NoQueue = False,
    queue_only: QueueOnly = False,
    json_file: JsonFile = None,
) -> None:
    """Measure, and print figures and goals."""
    # Before anything computes: each search is one thread of many.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    console, began, limit = Console(), time.monotonic(), int(megabytes * 1_000_000)

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

    with running() as here:
        about = machine.facts(here.folder)
        chunk_s = corpus.cutting_s(limit)
        chunks, asked = corpus.without_docstrings(limit)
        asked = asked[:questions]
        tell(f"{len(chunks)} chunks without docstrings, {len(asked)} questions; all files are cut in {chunk_s:.1f} s")
        texts = [each.about.question for each in asked[:200]]
        queue = None if no_queue else asdict(through_queue.measure(here, limit, texts, watch, tell))
        if queue_only:
            console.print(queue)
            return
        index, took = quality.build(chunks, here.folder_of("vectors"), tell)
        ready = quality.prepared(asked)
        tree = {"chunks": len(chunks), **quality.scores(index, chunks, ready, quality.AT_ONCE_FOUND)}
        tell("asked by words and by the vectors of words")
        fewer, about_fewer = corpus.without_docstrings(int(model_megabytes * 1_000_000))
        embedded, _ = quality.build(fewer, here.folder_of("embedded"), tell)
        embed_s = quality.embed(embedded, fewer, tell)
        part = {"chunks": len(fewer), **quality.scores(embedded, fewer, quality.prepared(about_fewer[:questions]))}
        rates = quality.rates([chunk.embeddable for chunk in fewer])
        tell(f"MiniLM, texts a second: {rates}")
        quality.stand_in(index, chunks)
        search = {f"{clients} clients": quality.latencies(index, ready[:400], clients) for clients in (1, 16)}
        about |= {"load_average_after": os.getloadavg()[0]}
    here_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model = {"embedded_per_s": len(fewer) / embed_s, **rates}
    told: dict[str, Any] = {
        "commit": machine.revision(),
        "machine": about,
        "versions": machine.versions(),
        "corpus": {"megabytes": megabytes, "model_megabytes": model_megabytes, "chunks": len(chunks), "questions": len(asked)},
        "through the queue": queue,
        "in this process": {"cutting_s": chunk_s, **asdict(took), **model, "peak_mib": here_mib, "search": search},
        "quality": {"all": tree, "embedded": part},
    }
    goals = _goals(told)
    _show(told, console)
    show_goals(goals, console)
    keep({**told, "goals": [goal._asdict() for goal in goals]}, console, json_file)


def _show(told: dict[str, Any], console: Console) -> None:
    columns = ("way", "questions", "recall@1", "recall@10", "MRR")
    table = Table(*columns, title="Docstring → definition, the docstring taken out", title_justify="left")
    for tree in told["quality"].values():
        table.add_section()
        table.add_row(f"[bold]among {tree['chunks']} chunks[/]")
        for way in quality.WAYS:
            for group, score in tree.get(way, {}).items():
                figures = (f"{score[name]:.3f}" for name in ("recall_1", "recall_10", "mrr"))
                table.add_row(way if group == "all" else "", f"{group} ({score['questions']})", *figures)
    console.print(table)
    for where in ("through the queue", "in this process"):
        parts = Table(where, "", box=None)
        for name, value in (told[where] or {}).items():
            parts.add_row(name, f"{value:,.1f}" if isinstance(value, float) else str(value))
        console.print(parts)
    if queue := told["through the queue"]:
        for name, floor in queue["floors"].items():
            for when, took in queue["search"].items():
                if when.rpartition(", ")[2] == name.rpartition(", ")[2]:
                    ratio = took["p50_ms"] / floor["p50_ms"]
                    console.print(f"A search {when}: {ratio:.1f} × {name} (p50 {floor['p50_ms']:.0f} ms).", highlight=False)
    load = told["machine"]
    loads = f"{load['load_average']:.1f} before, {load['load_average_after']:.1f} after"
    console.print(f"Load average {loads}, on {load['cores']} cores.", highlight=False)


def _goals(told: dict[str, Any]) -> list[Goal]:
    """Judge the figures by the goals that they were set."""
    here, tree, part = told["in this process"], told["quality"]["all"], told["quality"]["embedded"]
    fused, unnamed = (part[quality.FUSED][group]["recall_10"] for group in ("all", "without a part of the name"))
    ratio = here["ours_per_s"] / max(here["bare_per_s"], here["bare_all_cores_per_s"])
    goals = [
        _recall("recall@10 of the fast tier ≥ 0.56", tree, tree[quality.FAST]["all"]["recall_10"], 0.56),
        _recall("recall@10 of everything fused ≥ 0.67", part, fused, 0.67),
        _recall("≥ 0.50 where no part of the name is shared", part, unnamed, 0.5),
        _at_least("MiniLM ≥ 0.9 of a bare encode on all cores", "texts/s", ratio, 0.9),
        _at_most("p99 ≤ 25 ms at 1 client", "a search in this process", here["search"]["1 clients"]["p99_ms"], 25),
        _at_most("p99 ≤ 150 ms at 16 clients", "a search in this process", here["search"]["16 clients"]["p99_ms"], 150),
    ]
    if queue := told["through the queue"]:
        embedded_s = float("inf") if queue["background_left"] else queue["embedded_s"]
        whole = queue["bytes"] >= _WHOLE_BYTES
        where = f"through the queue, {queue['bytes'] / 1e6:.1f} MB{'' if whole else ', which is too little'}"
        times = [
            _at_most("searchable in 10 s, cold", where, queue["cold_s"], 10),
            _at_most("searchable in 4 s, warm", where, queue["warm_s"], 4),
            _at_most("unchanged in 3 s", where, queue["unchanged_s"], 3),
            _at_most("embedded in 300 s, with searches meanwhile", where, embedded_s, 300),
            _at_most("worker below 1,024 MiB", where, queue["peak_mib"], 1024),
        ]
        for when, took in queue["search"].items():
            most = 25 if when.endswith(" 1 clients") else 150
            times.append(_at_most(f"p99 ≤ {most} ms", f"a search {when}", took["p99_ms"], most))
        goals += [goal if whole else goal._replace(held=False) for goal in times]
    return goals


def _recall(goal: str, tree: dict[str, Any], found: float, least: float) -> Goal:
    """Judge a recall; among fewer chunks than the goal is about it is easier, so there it counts as not reached."""
    many = tree["chunks"] >= _MANY
    return Goal(
        goal, f"docstring → definition, {tree['chunks']:,} chunks", f"{found:.3f}{'' if many else ', of too few chunks'}", many and found >= least
    )


def _at_least(goal: str, row: str, found: float, least: float) -> Goal:
    return Goal(goal, row, f"{found:.3f}", found >= least)


def _at_most(goal: str, row: str, found: float, most: float) -> Goal:
    return Goal(goal, row, f"{found:,.1f}", found <= most)


if __name__ == "__main__":
    typer.run(code_search)
