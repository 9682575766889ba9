"""Spans of lines, and their cutting into pieces that a small model can read; knows no language."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from federation.vectors.wording import count_words

# About 200 tokens of MiniLM with the heading, which is inside its window of 256.
MAX_WORDS: Final = 150


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of lines of one file under one title; lines count from 1, both ends included."""

    kind: str
    title: str
    start_line: int
    end_line: int
    text: str


def _shorter_lines(line: str, limit: int) -> list[str]:
    """Cut a line of very many words, such as a paragraph without breaks."""
    if count_words(line) <= limit:
        return [line]
    tokens = line.split()
    if len(tokens) == 1:
        return [line]
    size = max(1, len(tokens) * limit // count_words(line))
    return [" ".join(tokens[at : at + size]) for at in range(0, len(tokens), size)]


def cut(lines: Sequence[str], first: int, last: int, *, kind: str, title: str, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return lines `first` to `last` (from 0, both included) as pieces of about equal length; none if there is no word in them."""
    while first <= last and not lines[first].strip():
        first += 1
    while last >= first and not lines[last].strip():
        last -= 1
    numbered = [(number, part) for number in range(first, last + 1) for part in _shorter_lines(lines[number], max_words)]
    counts = [count_words(part) for _, part in numbered]
    total = sum(counts)
    if total == 0:
        return []
    share = total / ceil(total / max_words)
    pieces: list[Piece] = []
    taken: list[tuple[int, str]] = []
    words = 0

    def close() -> None:
        if any(part.strip() for _, part in taken):
            pieces.append(Piece(kind, title, taken[0][0] + 1, taken[-1][0] + 1, "\n".join(part for _, part in taken)))
        taken.clear()

    for line, count in zip(numbered, counts, strict=True):
        # Half of the line may hang over, so that the pieces come out even.
        if taken and words + count / 2 > share:
            close()
            words = 0
        taken.append(line)
        words += count
    close()
    return pieces
