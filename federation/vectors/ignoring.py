"""What the .gitignore files of a tree leave out, by git's rules; runs no git."""

import os
import re
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


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that hold in a folder: those of its own file before those of the folders above it."""

    folder: str
    patterns: Sequence[GitIgnoreSpecPattern]
    outer: "Rules | None" = None

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Say whether an absolute path is left out; within a folder that is left out nothing can be taken in again."""
        asked = path + "/" if is_folder else path
        rules: Rules | None = self
        while rules is not None:
            verdict = _verdict(rules.patterns, asked[len(rules.folder) :])
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
        lines = os.fsdecode(plain_bytes(folder / FILE, _MAX_BYTES)).split("\n")
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


def _pattern(line: str) -> GitIgnoreSpecPattern | None:
    try:
        return GitIgnoreSpecPattern(line)
    except (GitIgnorePatternError, re.error):
        # Git passes over what is no pattern, too.
        return None
