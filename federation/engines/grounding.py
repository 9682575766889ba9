"""Which names and numbers of a text do not occur in the text that it is about; knows words, and not what they say.

It finds who or what was invented. It does not find that what is named is said of the wrong one.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final

# A version, a path, an address and a name with a hyphen are one word; the sign at its end is not of it.
_WORD: Final = re.compile(r"\w(?:[\w.,:/@'’+-]*\w)?")
_THOUSANDS: Final = re.compile(r"(?<=\d)[,_'’](?=\d{3}(?!\d))")
_OPENS: Final = re.compile(r"(?:\A|[.!?:;…\n])[\s\"'“”‘’«»(\[*•–-]*\Z")
_POSSESSIVE: Final = re.compile(r"['’]s?\Z")
_CODE: Final = re.compile(r"[a-z][A-Z]|[\w][._/@:][\w]")
# «One» is left out, because it is seldom a number.
_NUMBERS: Final = {
    **{"zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12},
    **{"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000},
}
# A number with a name before it is a part of that.
_APART: Final = r"(?<![^\W\d]-)"
_NUMBER: Final = re.compile(rf"\b(?:{'|'.join(_NUMBERS)})\b", re.IGNORECASE)
# What a sentence begins with, and is no name. Whatever else begins one and does not occur in the source counts as a name.
_OPENING: Final = """
    a about after again all also although an and another any as at based because before being both but by currently despite did do does during
    each either every everybody everyone few finally first for from further furthermore given had has have he her here his how however i if in
    instead it its last later many meanwhile more moreover most much my neither next no nobody none nor not nothing now of on once one only or
    other others our out over overall several she since so some somebody someone something soon still such than that the their them then there
    therefore these they this those though through thus to together too under until upon was we were what when where whether which while who
    whoever whole why will with within without yes yet you your
"""
_OPENERS: Final = frozenset(_OPENING.split())


def unsupported(text: str, source: str, *, names: Collection[str] = ()) -> list[str]:
    """Return the names and numbers of a text that its source has not, in order, each once.

    A name is a word with a capital that does not only begin a sentence, one with a digit, a point, a slash or a capital inside, or one of `names`.
    Whether it is written large or small makes no difference; of a number, neither do its thousands' signs nor whether it is in words.
    """
    there = _plain(source).casefold()
    known = {name.casefold() for name in names}
    said = _plain(text)
    small = {word.group() for word in _WORD.finditer(said) if word.group().islower()}
    found: dict[str, None] = {}
    for word, opens in _words(said):
        # What is written small elsewhere is large for its place alone.
        is_large_for_its_place = opens and word not in small and word.casefold() in small
        if _tells(word, opens=opens, known=known) and not is_large_for_its_place and not _occurs(word.casefold(), there):
            found[word] = None
    return list(found)


def _plain(text: str) -> str:
    return _NUMBER.sub(lambda word: str(_NUMBERS[word.group().casefold()]), _THOUSANDS.sub("", text))


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the words, each with whether it begins a sentence."""
    for word in _WORD.finditer(text):
        yield _POSSESSIVE.sub("", word.group()), bool(_OPENS.search(text[max(word.start() - 20, 0) : word.start()]))


def _tells(word: str, *, opens: bool, known: Collection[str]) -> bool:
    """Return whether a word is a name or a number."""
    if word.casefold() in known or any(sign.isdigit() for sign in word) or _CODE.search(word):
        return True
    if word == "I" or not any(sign.isupper() for sign in word):
        return False
    return not (opens and word[1:].islower() and word.casefold() in _OPENERS)


def _occurs(word: str, source: str) -> bool:
    # 5 is not said where 5.7 is, and 4 not where GPT-4 is.
    if re.search(rf"(?<!\w)(?<!\d[.,:]){_APART if word[0].isdigit() else ''}{re.escape(word)}(?!\w)(?![.,:]\d)", source):
        return True
    # «Memory-leak» is said where both are.
    parts = word.split("-")
    return len(parts) > 1 and all(part.isalpha() and _occurs(part, source) for part in parts)
