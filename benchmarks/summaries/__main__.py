"""Summarises docstrings of Python's standard library and compares with what their authors put first: `python -m benchmarks.summaries --help`."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.run import keep
from benchmarks.running import running
from benchmarks.summaries.corpus import FEWEST_SENTENCES, Document, documents
from benchmarks.summaries.rouge import rouge_1
from federation.engines import catalogue, extractive
from federation.engines.grounding import unsupported
from federation.engines.sentences import sentences_of

Documents = Annotated[int, typer.Option(min=2, help="How many, if the library has so many.")]
Sentences = Annotated[int, typer.Option(min=1, help="How many sentences a summary has.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]


def summaries(*, limit: Documents = 300, sentences: Sentences = 3, json_file: JsonFile = None) -> None:
    """Print ROUGE-1 of our extract beside the first sentences and random ones, and how often the check of names refuses what authors wrote."""
    console = Console()
    began = time.monotonic()
    with running() as here:
        about = machine.facts(here.folder)
    listed = documents(limit)
    measured = {name: _measured(way, listed) for name, way in _ways(sentences).items()}
    table = Table()
    for title in (f"{sentences} sentences of {len(listed)} texts", "ROUGE-1 recall", "F1"):
        table.add_column(title)
    for name, (recall, f1) in measured.items():
        table.add_row(name, f"{recall:.3f}", f"{f1:.3f}")
    console.print(table)
    own, other = _grounded(listed)
    console.print(
        f"Of the authors' own summaries {own:.1%} name nothing that the text has not; of those of other texts, with a name or a number, {other:.1%}.",
        highlight=False,
    )
    kept = {
        "commit": machine.revision(),
        "machine": about,
        "versions": machine.versions(),
        "plan": {"documents": len(listed), "sentences": sentences, "fewest_sentences": FEWEST_SENTENCES},
        "rouge_1": {name: {"recall": round(recall, 4), "f1": round(f1, 4)} for name, (recall, f1) in measured.items()},
        "check": {"own_pass": round(own, 4), "others_pass": round(other, 4)},
        "took_s": round(time.monotonic() - began, 1),
    }
    keep(kept, console, json_file)


def _ways(count: int) -> dict[str, Callable[[Document], Sequence[str]]]:
    engine = catalogue.embedding("minilm")
    chance = random.Random(0)

    def ours(document: Document) -> list[str]:
        picked = extractive.summarise(document.paragraphs, lambda texts: engine.embed(texts, truncate_at=engine.window), max_sentences=count)
        return [each.sentence for each in picked]

    def central(document: Document) -> list[str]:
        every = _sentences(document)
        return [every[index] for index in extractive.pick(engine.embed(every, truncate_at=engine.window), limit=count)]

    return {
        "ours": ours,
        "ours without the opening": central,
        "the first": lambda document: _sentences(document)[:count],
        "random": lambda document: chance.sample(_sentences(document), count),
    }


def _sentences(document: Document) -> list[str]:
    return [sentence for paragraph in document.paragraphs for sentence in sentences_of(paragraph)]


def _measured(way: Callable[[Document], Sequence[str]], listed: Sequence[Document]) -> tuple[float, float]:
    found = [rouge_1(" ".join(way(document)), document.summary) for document in listed]
    return fmean(each.recall for each in found), fmean(each.f1 for each in found)


def _grounded(listed: Sequence[Document]) -> tuple[float, float]:
    """Return the share of summaries that pass the check of names: for their own texts, and, of those that name anything, for the next one's."""
    texts = [" ".join(document.paragraphs) for document in listed]
    own = [not unsupported(document.summary, text) for document, text in zip(listed, texts, strict=True)]
    following = zip(listed, [*texts[1:], texts[0]], strict=True)
    other = [not unsupported(document.summary, text) for document, text in following if unsupported(document.summary, "")]
    return fmean(own), fmean(other)


if __name__ == "__main__":
    typer.run(summaries)
