"""Markdown by its headings, other text by paragraphs; renders nothing."""

import re
from collections.abc import Sequence

from federation.vectors.pieces import MAX_WORDS, Lines, Piece, cut

_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


def markdown_pieces(text: str, *, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return the sections of a Markdown file, titled by their path of headings, such as `Install › From source`."""
    lines = Lines(text)
    pieces: list[Piece] = []
    headings: list[tuple[int, str]] = []
    fence = ""
    start = 0

    def close(end: int) -> None:
        title = " › ".join(name for _, name in headings)
        pieces.extend(cut(lines, start, end, kind="section", title=title, max_words=max_words))

    for number, line in enumerate(lines.texts):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence and (heading := _HEADING.match(line)):
            close(number - 1)
            start, level = number, len(heading[1])
            headings = [*((depth, name) for depth, name in headings if depth < level), (level, heading[2])]
    close(lines.last)
    return pieces


def _paragraphs(lines: Sequence[str]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def text_pieces(text: str, *, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return the paragraphs of a text; short neighbours share a piece."""
    lines = Lines(text)
    spans: list[tuple[int, int]] = []
    words = 0
    for first, last in _paragraphs(lines.texts):
        count = lines.count(first, last)
        if spans and words + count <= max_words:
            spans[-1] = (spans[-1][0], last)
            words += count
        else:
            spans.append((first, last))
            words = count
    return [piece for first, last in spans for piece in cut(lines, first, last, kind="paragraph", title="", max_words=max_words)]
