"""Chat messages to sentences; leaves code words, versions and file names whole, and leaves fenced code out."""

import re

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•>]|#+|\d+[.)])\s+")
# A point ends a sentence only before a blank, so `kombu.pidbox`, `5.7.0` and `settings.py` stay whole.
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[`]*[A-Z0-9ÄÖÜ`])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|no|fig|dr|mr|mrs|ms|st)|\b[A-Z])\.$", re.IGNORECASE)


def _of_line(line: str) -> list[str]:
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(line):
        candidate = line[start : end.end()].strip()
        if not _ABBREVIATION.search(candidate):
            sentences.append(candidate)
            start = end.end()
    return [*sentences, rest] if (rest := line[start:].strip()) else sentences


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a message in order; a line break ends one, a message of nothing but fenced code gives its lines."""
    prose = _FENCE.sub("\n", text)
    if not prose.strip():
        prose = "\n".join(line for line in text.splitlines() if not line.strip().startswith(("```", "~~~")))
    return [sentence for line in prose.splitlines() for sentence in _of_line(_BULLET.sub("", line))]
