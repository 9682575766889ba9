"""Spans of lines, and their cutting into pieces that a small model can read; knows no language."""

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Final

from federation.vectors.wording import count_words, count_words_of_lines

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


class Lines:
    """The lines of a text, and how many words each has; they count from 0 here."""

    def __init__(self, text: str) -> None:
        # tree-sitter counts lines by \n only, str.splitlines also by form feeds and others.
        self.texts = text.split("\n")
        self.words = count_words_of_lines(self.texts)
        self._before = list(accumulate(self.words, initial=0))

    @property
    def last(self) -> int:
        """Return the number of the last line."""
        return len(self.texts) - 1

    def count(self, first: int, last: int) -> int:
        """Return how many words there are in lines `first` to `last`, both included."""
        return self._before[last + 1] - self._before[first]

    def joined(self, first: int, last: int) -> str:
        """Return these lines as a text."""
        return "\n".join(self.texts[first : last + 1])

    def parts(self, number: int, limit: int) -> list[tuple[str, int]]:
        """Return a line and how many words it has; one of very many words, such as a paragraph without breaks, as several."""
        line, words = self.texts[number], self.words[number]
        tokens = line.split() if words > limit else ()
        if len(tokens) <= 1:
            return [(line, words)]
        size = max(1, len(tokens) * limit // words)
        parts = [" ".join(tokens[at : at + size]) for at in range(0, len(tokens), size)]
        return [(part, count_words(part)) for part in parts]


def cut(lines: Lines, first: int, last: int, *, kind: str, title: str, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return lines `first` to `last` (both included) as pieces of about equal length; none if there is no word in them."""
    while first <= last and not lines.texts[first].strip():
        first += 1
    while last >= first and not lines.texts[last].strip():
        last -= 1
    total = lines.count(first, last) if first <= last else 0
    if total == 0:
        return []
    if total <= max_words:
        return [Piece(kind, title, first + 1, last + 1, lines.joined(first, last))]
    numbered = [(number, *part) for number in range(first, last + 1) for part in lines.parts(number, max_words)]
    share = total / ceil(total / max_words)
    pieces: list[Piece] = []
    taken: list[tuple[int, str]] = []
    words = 0

    def close() -> None:
        if any(part.strip() for _, part in taken):
            pieces.append(Piece(kind, title, taken[0][0] + 1, taken[-1][0] + 1, "\n".join(part for _, part in taken)))
        taken.clear()

    for number, part, count in numbered:
        # Half of the line may hang over, so that the pieces come out even.
        if taken and words + count / 2 > share:
            close()
            words = 0
        taken.append((number, part))
        words += count
    close()
    return pieces
