"""The code that is searched: the standard library of the Python that runs this, as much of it as asked; changes nothing of it."""

import random
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.code_search.definitions import Definition, take_out
from federation.vectors.chunking import Chunk, chunk_file

_SEED = 7


def files(limit_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the library's modules, its tests last, until together they are as long as asked."""
    root, total = Path(sysconfig.get_paths()["stdlib"]), 0
    found = (path for path in root.rglob("*.py") if not {"site-packages", "dist-packages", "__pycache__"} & set(path.parts))
    for path in sorted(found, key=lambda path: (path.relative_to(root).parts[0] == "test", str(path))):
        content = path.read_bytes()
        total += len(content)
        if total > limit_bytes:
            return
        yield str(path.relative_to(root)), content


def copy(folder: Path, limit_bytes: int) -> tuple[int, int]:
    """Write these files into a folder; return how many there are, and their bytes together."""
    count = total = 0
    for name, content in files(limit_bytes):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        count, total = count + 1, total + len(content)
    return count, total


def cutting_s(limit_bytes: int) -> float:
    """Return how many seconds it takes to cut these files, one after the other and as they are."""
    read = list(files(limit_bytes))
    began = time.perf_counter()
    for path, content in read:
        chunk_file(path, content)
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Question:
    """A docstring, and the chunks (by their places) of the definition that it was taken out of."""

    about: Definition
    answers: frozenset[int]


def without_docstrings(limit_bytes: int) -> tuple[list[Chunk], list[Question]]:
    """Return the chunks of these files without docstrings, and the docstrings that occur once, in an order that is always the same."""
    chunks: list[Chunk] = []
    definitions: list[Definition] = []
    for path, content in files(limit_bytes):
        try:
            with warnings.catch_warnings(action="ignore"):
                source, found = take_out(path, content.decode())
        except (SyntaxError, ValueError, RecursionError):
            continue
        cut = chunk_file(path, source.encode())
        if isinstance(cut, list):
            chunks += cut
            definitions += found
    return chunks, _questions(chunks, definitions)


def _questions(chunks: Sequence[Chunk], definitions: Sequence[Definition]) -> list[Question]:
    places: dict[tuple[str, str], list[int]] = {}
    for place, chunk in enumerate(chunks):
        places.setdefault((chunk.path, chunk.title), []).append(place)
    asked = Counter(definition.question.lower() for definition in definitions)
    made = []
    for one in definitions:
        # A small class is one chunk, with its methods.
        titles = (one.title, one.title.rpartition(".")[0])
        held = [[at for at in places.get((one.path, title), ()) if _meet(chunks[at], one)] for title in titles]
        if asked[one.question.lower()] == 1 and (answers := held[0] or held[1][:1]):
            made.append(Question(one, frozenset(answers)))
    random.Random(_SEED).shuffle(made)
    return made


def _meet(chunk: Chunk, definition: Definition) -> bool:
    return chunk.start_line <= definition.last and chunk.end_line >= definition.first
