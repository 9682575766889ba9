"""What the .gitignore files of a tree leave out, by git's rules; runs no git."""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from federation.vectors.sources import plain_bytes

FILE: Final = ".gitignore"
# Rules are read whole; a longer file is no list that somebody wrote.
_MAX_BYTES: Final = 2**20
# A set of characters, as far as pathspec takes it for one, with names of POSIX's in it: `[[:alpha:]_]`.
_SET: Final = re.compile(r"\\.|\[([!^]?)(\]?(?:\[:[a-z]+:\]|[^\]/])*)\]")
_NAME: Final = re.compile(r"\[:([a-z]+):\]")
# What pathspec does not know of them; without the slash, which no set matches. None begins with a sign that has a meaning there.
_NAMED: Final = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \t",
    "cntrl": "\x01-\x1f\x7f",
    "digit": "0-9",
    "graph": '"-.0-~!',
    "lower": "a-z",
    "print": " -.0-~",
    "punct": ":-@!-.[-`{-~",
    "space": " \t-\r",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that hold in a folder: those of its own file before those of the folders above it."""

    folder: str
    patterns: Sequence[GitIgnoreSpecPattern]
    outer: "Rules | None" = None

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Say whether an absolute path is left out; within a folder that is left out nothing can be taken in again."""
        asked = os.fsencode(path + "/" if is_folder else path)
        rules: Rules | None = self
        while rules is not None:
            verdict = _verdict(rules.patterns, _by_bytes(asked[len(os.fsencode(rules.folder)) :]))
            if verdict is not None:
                return verdict
            rules = rules.outer
        return False


def _verdict(patterns: Sequence[GitIgnoreSpecPattern], asked: str) -> bool | None:
    """Return what the last pattern says that is about this very file or folder: those above it were asked about before."""
    for pattern in reversed(patterns):
        if pattern.regex and any(_is_about(match, asked) for match in pattern.regex.finditer(asked)):
            return pattern.include
    return None


def _is_about(match: re.Match[str], asked: str) -> bool:
    """Say whether a match is not of a folder above (pathspec marks its slash), and not of one whose content alone is meant (`folder/**`)."""
    if match.groupdict().get("ps_d"):
        return match.end() == len(asked)
    return not (match.re.pattern.endswith("/") and match.end() == len(asked))


def within(folder: Path, outer: Rules | None) -> Rules | None:
    """Return the rules inside a folder, `outer` being those around it; a file of rules that cannot be read rules nothing."""
    try:
        lines = _by_bytes(plain_bytes(folder / FILE, _MAX_BYTES).removeprefix(BOM_UTF8)).split("\n")
    except OSError:
        return outer
    return Rules(f"{folder}/", [pattern for line in lines if (pattern := _pattern(line))], outer)


def above(root: Path) -> Rules | None:
    """Return the rules that hold around a folder of a git repository.

    None where there are none, and for a folder that they leave out: who asks for it by name wants what is in it.
    """
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    rules: Rules | None = None
    for folder in (each for each in reversed((root, *root.parents)) if each.is_relative_to(top)):
        if rules is not None and rules.ignores(str(folder), is_folder=True):
            return None
        if folder != root:
            rules = within(folder, rules)
    return rules


def _by_bytes(raw: bytes) -> str:
    """Return a text in which each byte is a character, because git compares bytes: `?` is half of an `é`."""
    return raw.decode("ascii", "surrogateescape")


def _spelt_out(found: re.Match[str]) -> str:
    """Return a set of characters with what names of POSIX's stand for; one with a name that does not exist is none, as for git."""
    if found[2] is None or not (names := _NAME.findall(found[2])):
        return found[0]
    if unknown := [name for name in names if name not in _NAMED]:
        raise GitIgnorePatternError(f"no characters are called {unknown[0]}")
    rest = _NAME.sub("", found[2])
    first = "]" if rest.startswith("]") else ""
    return f"[{found[1]}{first}{''.join(_NAMED[name] for name in names)}{rest.removeprefix(first)}]"


def _pattern(line: str) -> GitIgnoreSpecPattern | None:
    try:
        spelt = _SET.sub(_spelt_out, line.rstrip("\r"))
        # All folders below, and not that folder itself, as pathspec has it.
        return GitIgnoreSpecPattern(f"{spelt}*/" if spelt.endswith("/**/") else spelt)
    except (GitIgnorePatternError, re.error):
        # Git passes over what is no pattern, too.
        return None
