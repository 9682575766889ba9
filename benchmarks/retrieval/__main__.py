"""Asks 120 questions about four installed packages and prints how often the right file came first: `python -m benchmarks.retrieval`."""

import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.retrieval.measure import Answer, Indexed, Way, ask, index_package, score
from benchmarks.retrieval.questions import Part, load

Packages = Annotated[list[str] | None, typer.Option("--package", help="Only about this package; may be given several times.")]
Half = Annotated[Part | None, typer.Option("--part", help="Only this half; while settings are chosen, leave `control` unseen.")]
Missed = Annotated[bool, typer.Option("--missed", help="List the questions whose file was not among the first three.")]


def retrieval(*, package: Packages = None, part: Half = None, missed: Missed = False) -> None:
    """Index, ask, and print the scores of vectors alone, text alone and both."""
    console = Console()
    questions = [question for question in load() if question.package in (package or [question.package]) and question.part is (part or question.part)]
    indexed: dict[str, Indexed] = {}
    with tempfile.TemporaryDirectory(prefix="federation-benchmark-") as folder:
        for name in dict.fromkeys(question.package for question in questions):
            indexed[name] = found = index_package(name, Path(folder) / name)
            console.print(
                f"{name} {version(name)}: {found.files} files, {found.chunks} chunks, embedded in {found.embed_s:.1f} s, "
                f"written in {found.write_s:.1f} s",
                highlight=False,
            )
        answers = ask(indexed, questions)
    console.print(_scores(answers))
    took = [answer.search_ms for answer in answers if answer.way is Way.HYBRID]
    console.print(f"A hybrid search took {median(took):.0f} ms (median), {max(took):.0f} ms (longest), without embedding the question.")
    if missed:
        for answer in answers:
            if answer.way is Way.HYBRID and (answer.rank is None or answer.rank > 3):
                console.print(f"{answer.rank or '-':>3}  {answer.question.text} ({answer.question.file})", highlight=False)


def _scores(answers: Sequence[Answer]) -> Table:
    table = Table()
    table.add_column("questions")
    for title in ("", "first", "among three", "MRR"):
        table.add_column(title, justify="right" if title else "left")
    parts = dict.fromkeys(answer.question.part for answer in answers)
    groups: dict[str, list[Answer]] = {part: [answer for answer in answers if answer.question.part is part] for part in parts}
    for name in dict.fromkeys(answer.question.package for answer in answers):
        groups[name] = [answer for answer in answers if answer.question.package == name]
    for name, group in groups.items():
        for way in Way:
            found = score(group, way)
            title = f"{name} ({len(group) // len(Way)})" if way is Way.VECTOR else ""
            table.add_row(title, way, f"{found.hit_1:.3f}", f"{found.hit_3:.3f}", f"{found.mrr:.3f}", end_section=way is Way.HYBRID)
    return table


if __name__ == "__main__":
    typer.run(retrieval)
