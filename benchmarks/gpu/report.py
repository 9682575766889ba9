"""What was measured as tables, with what it ran on; decides nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import show_goals, told
from benchmarks.gpu import card, model
from benchmarks.gpu.comparison import OURS, Found
from benchmarks.gpu.measure import CHUNKS, PEAK, TFLOPS, TOKENS
from benchmarks.gpu.plans import Plan
from benchmarks.summary import Line, summarize


def show(plan: Plan, found: Found, machine: Mapping[str, Any], console: Console) -> None:
    """Print a table for each type and way of calling, goals, and what it ran on."""
    lines = summarize(found.readings, OURS)
    for title in dict.fromkeys(line.table for line in lines):
        console.print(_table(title, [line for line in lines if line.table == title]))
    console.print(
        f"Medians of {plan.rounds} interleaved rounds. Ratio: ours divided by it, median of the rounds' ratios and its 95 % bootstrap interval.",
        highlight=False,
    )
    for kind, (least, nearest) in found.likenesses.items():
        console.print(
            f"{kind}: our vector of a text and bare encode's have a cosine of {least:.5f} or more; for {nearest:.1%} it is the nearest.",
            highlight=False,
        )
    show_goals(found.goals, console)
    console.print(_about(plan, found, machine))


def _table(title: str, lines: Sequence[Line]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("chunks/s", "tokens/s", "TFLOP/s", "peak GiB", "ratio"):
        table.add_column(name, justify="right")
    found = {(line.peer, line.measure): line for line in lines}
    for peer in dict.fromkeys(line.peer for line in lines):
        chunks, peak = found[peer, CHUNKS], found.get((peer, PEAK))
        table.add_row(
            peer,
            f"{chunks.median:,.0f}",
            f"{found[peer, TOKENS].median:,.0f}",
            f"{found[peer, TFLOPS].median:,.1f}",
            f"{peak.median:.2f}" if peak else "",
            told(chunks.ratio) if chunks.ratio else "",
        )
    return table


def _about(plan: Plan, found: Found, machine: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    gpu, tokens = machine["gpu"], found.corpus["tokens_a_chunk"]
    ran_on = "none: this ran on the CPU, and its figures say nothing of a GPU"
    if gpu:
        ran_on = f"{gpu['name']}, {gpu['memory_gib']} GiB, compute capability {gpu['compute_capability']}, driver {gpu['driver']}, CUDA {gpu['cuda']}"
    table.add_row("GPU", ran_on)
    table.add_row("machine", f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}")
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in card.versions().items()))
    table.add_row("model", f"{model.NAME}: {plan.layers} layers of {model.DIM}, window {model.WINDOW}")
    table.add_row(
        "corpus",
        f"{found.corpus['chunks']:,} chunks of {found.corpus['files']} files of Python's standard library, cut by our chunker "
        f"({found.corpus['cut_by_one_process_per_s']:,} chunks/s in one process; from files: {plan.cutters} processes); tokens a chunk: "
        f"mean {tokens['mean']}, median {tokens['median']:g}, longest {tokens['longest']}; {tokens['over_the_window']} are cut at the window",
    )
    table.add_row("vocabulary", found.corpus["vocabulary"])
    return table
