"""Why a place was found by a question: which of its words stand in it, and on which line most of them; ranks nothing."""

from collections.abc import Sequence

from federation.vectors.wording import split_words

# So much of a word must be the same, as far as endings go: reconnect, reconnects, reconnecting.
_STEM = 4


def why(question: str, path: str, title: str, text: str) -> tuple[Sequence[str], int | None]:
    """Return the words of a question that occur in a place, and the line of its text (from 0) that has most of them, None if none has any."""
    asked = list(dict.fromkeys(word for word in split_words(question).split() if len(word) > 2))
    lines = [_stems(line) for line in text.split("\n")]
    anywhere = set().union(_stems(f"{path} {title}"), *lines)
    found = [word for word in asked if word in anywhere or _stem(word) in anywhere]
    counts = [sum(word in line or _stem(word) in line for word in found) for line in lines]
    most = max(counts, default=0)
    return found, counts.index(most) if most else None


def _stems(text: str) -> set[str]:
    words = split_words(text).split()
    return {*words, *map(_stem, words)}


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ies", "ied", "ers", "er", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _STEM:
            return word.removesuffix(ending)
    return word
