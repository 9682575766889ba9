"""Embeds on a GPU through our engine and bare, with BGE-base's architecture and random weights: `python -m benchmarks.gpu --help`.

Exit code 0 when it was measured, whether or not the goals held; 69 where there is no GPU.
"""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.run import keep
from benchmarks.running import running
from benchmarks.summary import summarize

NO_GPU = 69
LEFT_OUT = "The writer of vectors is left out: its tables hold vectors of 384 numbers, as MiniLM's are, and these have 768."

Chunks = Annotated[int, typer.Option(min=512, help="How many chunks of Python's standard library are embedded, if it has so many.")]
Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Vocabulary = Annotated[Path | None, typer.Option(help="BGE's tokenizer.json; else that of an installed MiniLM, else one is learned from the chunks.")]
Quick = Annotated[bool, typer.Option(help="One layer and some chunks, on the CPU where there is no GPU: shows that it runs, and measures nothing.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings and the settings to this file too.")]


def gpu(*, chunks: Chunks = 12_288, rounds: Rounds = 5, vocabulary: Vocabulary = None, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Measure, and print what it ran on, chunks and tokens a second, ratios with their 95 % intervals, and goals."""
    # The processes that cut files import this module, and need no torch.
    from benchmarks.gpu import card  # noqa: PLC0415

    console = Console()
    began = time.monotonic()
    found_card = card.facts()
    if not found_card and not quick:
        console.print("There is no GPU here that torch sees, so nothing was measured. `--quick` shows on the CPU that the benchmark runs.")
        raise typer.Exit(NO_GPU)
    from benchmarks.gpu import comparison, model, plans, report  # noqa: PLC0415 - they take seconds more

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

    plan = plans.quick("cuda" if found_card else "cpu") if quick else plans.on_gpu(chunks, rounds, len(os.sched_getaffinity(0)))
    with running() as here:
        about = machine.facts(here.folder) | {"gpu": found_card}
        found = comparison.compare(plan, here.folder_of("model"), vocabulary or model.installed_vocabulary(), tell)
    about |= {"load_average_after": os.getloadavg()[0]}
    report.show(plan, found, about, console)
    console.print(LEFT_OUT, highlight=False)
    kept = {
        "commit": machine.revision(),
        "machine": about,
        "versions": machine.versions() | card.versions(),
        "plan": asdict(plan),
        "model": {"name": model.NAME, "layers": plan.layers, "dim": model.DIM, "window": model.WINDOW},
        "corpus": found.corpus,
        "left_out": LEFT_OUT,
        "took_s": round(time.monotonic() - began, 1),
        "likenesses": {kind: {"least_cosine": least, "nearest": nearest} for kind, (least, nearest) in found.likenesses.items()},
        "goals": [goal._asdict() for goal in found.goals],
        "summary": [asdict(line) for line in summarize(found.readings, comparison.OURS)],
        "readings": [asdict(reading) for reading in found.readings],
    }
    keep(kept, console, json_file)


if __name__ == "__main__":
    typer.run(gpu)
