"""Python's own standard library, cut as the indexer cuts; embeds nothing and imports no model's library."""

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from federation.vectors.chunking import chunk_file


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files, and what the model reads of their chunks, in the order of the files."""

    files: Sequence[Path]
    texts: Sequence[str]


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def cut(files: Sequence[Path]) -> list[str]:
    """Return what the embedding model reads of each chunk of these files of the standard library."""
    texts: list[str] = []
    for file in files:
        chunks = chunk_file(file.relative_to(_root()).as_posix(), file.read_bytes())
        texts += [chunk.embeddable for chunk in chunks] if isinstance(chunks, list) else []
    return texts


def standard_library(chunks: int) -> Corpus:
    """Return whole files until there are so many chunks, or all that there are."""
    files: list[Path] = []
    texts: list[str] = []
    for file in sorted(_root().rglob("*.py")):
        if {"site-packages", "dist-packages"} & set(file.parts):
            continue
        if len(texts) >= chunks:
            break
        files.append(file)
        texts += cut([file])
    return Corpus(files, texts)
