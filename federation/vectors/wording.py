"""The words that a chunk is found by: identifiers split into words; touches no store."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain, product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Part of every chunk's hash: a change here or in the cutting makes old vectors stale, so count it up.
VERSION: Final = 2

IDENTIFIER = re.compile(r"[^\W\d]\w*|\d+")
# Capitals split camelCase in ASCII only; letters of other scripts stay together.
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")


def parts_of(identifier: str) -> list[str]:
    """Return the words of an identifier, lower case: `maybeDeclare_all` gives maybe, declare, all."""
    return [part.lower() for part in _PART.findall(identifier)]


@lru_cache(2**16)
def _split(identifier: str) -> str:
    # A tree has a hundred uses of each of its identifiers.
    return " ".join(parts_of(identifier))


@lru_cache(2**16)
def _whole(identifier: str) -> str:
    return identifier.lower() if " " in _split(identifier) else ""


def split_words(text: str) -> str:
    """Return the words of code or prose, identifiers split, punctuation gone."""
    return " ".join(filter(None, map(_split, IDENTIFIER.findall(text))))


def count_words(text: str) -> int:
    """Return how many words `split_words` gives; MiniLM makes about 1.3 tokens of one."""
    return len(_PART.findall(text))


def count_words_of_lines(lines: Sequence[str]) -> list[int]:
    """Return the same for each of many lines, which have no line feeds in them; a tenth of the time."""
    import numpy as np  # noqa: PLC0415 - a node that cuts no files may have none

    if not lines:
        return []
    text = "\n".join(line if line.isascii() else "" for line in lines).encode()
    kinds = np.zeros(len(text) + 2, dtype=np.uint8)
    kinds[1:-1] = _kinds()[np.frombuffer(text, dtype=np.uint8)]
    starts = _beginnings()[16 * kinds[:-2] + 4 * kinds[1:-1] + kinds[2:]]
    # Before each line feed, and at the end.
    ends = np.append(np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")), len(text))
    counts: list[int] = np.diff(np.concatenate([[0], np.cumsum(starts, dtype=np.int64)])[ends], prepend=0).tolist()
    for number, line in enumerate(lines):
        if not line.isascii():
            counts[number] = count_words(line)
    return counts


_LOWER, _UPPER, _DIGIT = 1, 2, 3


@cache
def _kinds() -> "NDArray[np.uint8]":
    """Return of what kind each character of ASCII is, 0 for what is in no word."""
    import numpy as np  # noqa: PLC0415

    letters = (str.islower, _LOWER), (str.isupper, _UPPER), (str.isdigit, _DIGIT)
    return np.array([next((kind for is_kind, kind in letters if code < 128 and is_kind(chr(code))), 0) for code in range(256)], dtype=np.uint8)


@cache
def _beginnings() -> "NDArray[np.uint8]":
    """Return whether a word begins at a character, by the kinds of the one before, of itself, and of the one after, as `_PART` has it."""
    import numpy as np  # noqa: PLC0415

    def begins(before: int, kind: int, after: int) -> bool:
        if kind == _UPPER:
            return before != _UPPER or after == _LOWER
        return kind not in (0, before) and not (kind == _LOWER and before == _UPPER)

    return np.array([begins(*three) for three in product(range(4), repeat=3)], dtype=np.uint8)


def embedding_text(path: str, title: str, text: str) -> str:
    """Return what the embedding model reads: where the chunk stands, then its text.

    Code stays as it is written. Splitting identifiers was no better here: file found first for .57 of 400 docstrings of celery
    taken out of it, against .59 unsplit, fused with full text; a difference inside the noise, and the simpler text won.
    """
    return f"{path} {title}\n{text}"


def searchable_text(path: str, title: str, text: str) -> str:
    """Return what full text search reads: split words, and identifiers of several words whole as well."""
    identifiers = IDENTIFIER.findall(f"{path}\n{title}\n{text}")
    return " ".join(filter(None, chain(map(_split, identifiers), map(_whole, identifiers))))


def query_text(question: str) -> str:
    """Return a question in the words that `searchable_text` uses."""
    return searchable_text("", "", question)
