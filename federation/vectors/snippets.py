"""Why a place was found by a question: which of its words stand in it, and on which line most of them; ranks nothing."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from federation.vectors.wording import IDENTIFIER, parts_of, split_words

# So much of a word must be the same, as far as endings go: reconnect, reconnects, reconnecting.
_STEM = 4


class Question(dict[str, frozenset[str]]):
    """Which words of a question stand in an identifier; each identifier is looked at once, in however many places."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._words = [word for word in dict.fromkeys(split_words(text).split()) if len(word) > 2]
        self._by_form: dict[str, list[str]] = {}
        for word in self._words:
            for form in {word, _stem(word)}:
                self._by_form.setdefault(form, []).append(word)

    def __missing__(self, identifier: str) -> frozenset[str]:
        forms = (self._by_form[form] for form in _forms(identifier) if form in self._by_form)
        found = self[identifier] = frozenset(chain.from_iterable(forms))
        return found

    def why(self, path: str, title: str, text: str) -> tuple[Sequence[str], int | None]:
        """Return its words that occur in a place, and the line of the place's text (from 0) that has most of them, None if none has any."""
        lines = [self._in(line) for line in text.split("\n")]
        anywhere = self._in(f"{path} {title}").union(*lines)
        counts = [len(line) for line in lines]
        most = max(counts)
        return [word for word in self._words if word in anywhere], counts.index(most) if most else None

    def _in(self, text: str) -> frozenset[str]:
        return frozenset().union(*map(self.__getitem__, IDENTIFIER.findall(text)))


@lru_cache(2**14)
def _forms(identifier: str) -> frozenset[str]:
    words = parts_of(identifier)
    return frozenset([*words, *map(_stem, words)])


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ies", "ied", "ers", "er", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _STEM:
            return word.removesuffix(ending)
    return word
