"""Text that agents, nodes and files brought, for a terminal or a log: what would command it is written out; imports nothing heavy."""

import unicodedata

# Controls, marks without a shape (which turn the direction of a line or hide in a name), separators of lines, halves of characters.
_WITHOUT_A_SHAPE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Breaks, and what joins the parts of a sign or of a word, as scripts and pictures need it.
_KEPT = {"\n", "\t", "\u200c", "\u200d"}


def visible(text: str) -> str:
    """Return the text with each character in it to be seen: an escape becomes the four characters \\x1b; breaks between lines stay."""
    return text if text.isprintable() else "".join(map(_seen, text))


def one_line(text: str) -> str:
    """Return the same on one line: a break becomes the two characters \\n."""
    return visible(text).replace("\n", "\\n")


def _seen(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _WITHOUT_A_SHAPE:
        return character
    return ascii(character)[1:-1]
