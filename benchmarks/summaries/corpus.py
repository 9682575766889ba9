"""Texts that somebody has summarised: the docstrings of Python's standard library, whose first paragraph says what the rest is about."""

import ast
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from federation.engines.sentences import sentences_of

# Fewer are their own summary.
FEWEST_SENTENCES = 10
FEWEST_WORDS = 6
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "lib2to3", "__pycache__"}
# Examples, and lists of arguments and grammar, are no sentences.
_NO_PROSE = re.compile(r"^(>>>|\.\.\.|\s{4,}|[-=*+|])")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Document:
    """A text in paragraphs, and what its author has put before it."""

    place: str
    summary: str
    paragraphs: tuple[str, ...]


def documents(limit: int, *, seed: int = 0) -> list[Document]:
    """Return so many of the library's long docstrings, or all that there are."""
    found = sorted(_found(), key=lambda document: document.place)
    return random.Random(seed).sample(found, min(limit, len(found)))


def _found() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        if _LEFT_OUT & set(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            told = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            document = _document(f"{path.relative_to(root)}:{getattr(node, 'lineno', 1)}", told or "")
            if document is not None and document.summary not in seen:
                seen.add(document.summary)
                yield document


def _document(place: str, told: str) -> Document | None:
    prose = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", told) if not _NO_PROSE.match(paragraph)]
    summary, rest = prose[0] if prose else "", prose[1:]
    paragraphs = tuple(paragraph for paragraph in rest if len(paragraph.split()) >= FEWEST_WORDS)
    sentences = [sentence for paragraph in paragraphs for sentence in sentences_of(paragraph)]
    if len(summary.split()) < FEWEST_WORDS or len(sentences) < FEWEST_SENTENCES:
        return None
    return Document(place, summary, paragraphs)
