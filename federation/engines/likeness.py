"""Whether two prompts differ by little in their words, and where; how near these places come is for a vector to say.

A vector alone will not do: to one of MiniLM's «port 5432» is nearly «port 5433», «is it safe» nearly «is it not safe», and one word of a long
prompt next to nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from federation.engines.contracts import EmbeddingEngine

# What stands in quotes is one word, to the letter; so is a version, a path, an option, a name with a hyphen, and a sign that is no punctuation.
_QUOTED: Final = r"(?<!\w)(?P<quoted>\"[^\"]+\"|'[^']+'|`[^`]+`|«[^»]+»|“[^”]+”|‘[^’]+’)(?!\w)"
_WORD: Final = re.compile(_QUOTED + r"|-{0,2}(?:\.(?=\d))?\w(?:[\w.,:/@'’+-]*\w)?|!(?=[\w=(])|[^\s\w.,;:!?«»\"'‘’“”`-]")
_SHORT: Final = re.compile(r"['’](?:s|re|m|d|ll|ve)\Z")
_OPENS: Final = frozenset(".!?:\n")
_ENDING: Final = re.compile(r"(?<=[a-z]{3})(?:ing|ed|es|s|e)\Z")
# These say nothing of what is asked: one prompt may have others of them than the other.
_SAYS_NOTHING: Final = """
    a an the please kindly thank thanks hello hi do does did is are am was were be been being has have had can could would will i me my we us our you
    your it its that which what of for tell give say there
"""
# These turn what is asked: where one prompt alone has one, it asks something else.
_TURNS: Final = """
    no not never none nobody nothing neither nor cannot without except but only unless if until while since before after above below over under
    in into on onto off out to from up down with by between against than more most less least fewer first second third last next previous former
    latter new old all any each every some both other another same else too again still already yet always ever sometimes often rarely almost nearly
    half and or who whom whose when where why how should must may might shall today tomorrow yesterday now then here one two three four five six
    seven eight nine ten eleven twelve hundred thousand million twice once
    nicht kein keine keinen nie ohne pas jamais sans sin nunca non senza niet geen
"""
_LIGHT: Final = frozenset(_SAYS_NOTHING.split())
_TURNING: Final = frozenset(_TURNS.split())
# Short prompts without their question mark would be far from those with it.
_ASKS: Final = re.compile(
    r"\A(?:what|which|who|whom|whose|when|where|why|how|is|are|am|was|were|do|does|did|can|could|will|would|has|have|had)\b", re.I
)
# So many words that count are looked at on each side of what only one prompt has.
_AROUND: Final = 4


@dataclass(frozen=True, slots=True)
class _Word:
    form: str
    # Of letters, and large for its place alone: no name, number or sign.
    plain: bool
    start: int
    end: int


def similarity(engine: EmbeddingEngine, one: str, other: str, *, cosine: float) -> float:
    """Return how near two prompts are: the `cosine` of their vectors as `asked`, or that of a place in which they differ where it is less.

    0 if their words do not ask the same, 1 for the same prompt alone.
    """
    if one == other:
        return 1.0
    places = apart(one, other)
    if places is None:
        return 0.0
    if places:
        # In a long prompt one word is next to nothing.
        vectors = engine.embed([asked(said) for place in places for said in place])
        cosine = min(cosine, float((vectors[::2] * vectors[1::2]).sum(axis=1).min()))
    return min(round(cosine, 3), 0.999)


def apart(one: str, other: str) -> list[tuple[str, str]] | None:
    """Return the places in which one prompt has words that the other has not, as both say them; None where their words do not ask the same.

    They may ask the same if one has all words of the other that count, in their order, and beside them only plain ones that turn nothing: no
    number, no name, no denial, and none in the place of another.
    """
    mine, others = list(_words(one)), list(_words(other))
    if len(mine) > len(others):
        places = apart(other, one)
        return None if places is None else [(right, left) for left, right in places]
    runs = _added(mine, others)
    return None if runs is None else [(_around(one, mine, at, at), _around(other, others, start, end)) for at, start, end in runs]


def asked(text: str) -> str:
    """Return a prompt as its vector is made: with a question mark behind a question that has no mark."""
    said = text.strip()
    return f"{said}?" if said[-1:].isalnum() and _ASKS.match(said) else said


def _added(few: Sequence[_Word], many: Sequence[_Word]) -> list[tuple[int, int, int]] | None:
    """Return the runs of words that only the longer one has: before which word of the shorter one, from where and to where; None as for `apart`."""
    if not few:
        return None
    runs, place = [], 0
    for at in range(len(few) + 1):
        start = place
        while place < len(many) and (at == len(few) or many[place].form != few[at].form):
            if not many[place].plain or many[place].form in _TURNING:
                return None
            place += 1
        if place > start:
            runs.append((at, start, place))
        if at < len(few):
            if place == len(many):
                return None
            place += 1
    return runs


def _around(text: str, words: Sequence[_Word], start: int, end: int) -> str:
    """Return a text from some words before the word `start` to some behind `end`, with all that says nothing at both ends."""
    first, last = start - _AROUND, end + _AROUND
    return text[words[first - 1].end if first > 0 else 0 : words[last].start if last < len(words) else len(text)].strip()


def _words(text: str) -> Iterator[_Word]:
    """Yield the words that count, in a form that is the same for small and capital letters and for most endings."""
    end = 0
    for found in _WORD.finditer(text):
        opens = not end or not _OPENS.isdisjoint(text[end : found.start()])
        start, end = found.span()
        word = found.group() if found["quoted"] else _SHORT.sub("", found.group())
        small = word.casefold().replace("’", "'")
        if found["quoted"]:
            yield _Word(word[1:-1], False, start, end)
        elif small.endswith("n't") or small == "cannot":
            yield _Word("not", False, start, end)
        else:
            plain = word.isalpha() and (word.islower() or (opens and word[1:].islower()) or word in {"A", "I"})
            # «US» is no «us», and «Will» not always «will».
            if plain and small in _LIGHT:
                continue
            yield _Word(small if small in _TURNING else _ENDING.sub("", small), plain, start, end)
