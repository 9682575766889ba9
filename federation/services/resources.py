"""Names of what can be claimed: a kind and a path, or a folder with all below it; says which of them overlap, and knows no claim.

Refuses all other patterns: of these, an index finds what overlaps.
"""

import re
import unicodedata
from dataclasses import dataclass

from federation.errors import InvalidInput

LONGEST = 1_000
# A lock is taken for each folder above.
DEEPEST = 64
# Claimed by the tools for tasks, which look at more than the claim.
TASK = "task"
FILE = "file"
PATTERN = r"^[a-z][a-z0-9-]{0,39}:[^\x00-\x1f\x7f]+$"
EVERYTHING = "**"
# How long a claim may hold.
SHORTEST_TTL_S, LONGEST_TTL_S = 1, 86_400

WANTED = "a kind and a path, such as file:docs/index.md, or a folder with all below it, such as file:src/**"


@dataclass(frozen=True, slots=True)
class Resource:
    """A name in its one form; `parsed` makes it of what a caller wrote."""

    name: str

    @property
    def is_tree(self) -> bool:
        """Whether it is a folder with all below it."""
        return self.name.endswith(EVERYTHING)

    @property
    def below(self) -> str | None:
        """What the names of all that lie in it begin with, such as `file:src/`; None if it is no folder."""
        return self.name.removesuffix(EVERYTHING) if self.is_tree else None

    @property
    def node(self) -> str:
        """The thing or the folder itself, such as `file:src` for `file:src/**`."""
        return self.name if self.below is None else self.below.removesuffix("/")

    @property
    def above(self) -> list[str]:
        """The folders that it lies in, from the root downwards, such as `file:` and `file:src`; of a task none."""
        kind, _, path = self.node.partition(":")
        if kind == TASK or not path:
            return []
        parts = path.split("/")
        return [f"{kind}:", *(f"{kind}:{'/'.join(parts[:many])}" for many in range(1, len(parts)))]

    @property
    def covered_by(self) -> list[str]:
        """The names that mean all of it, itself among them."""
        if self.name.startswith(f"{TASK}:"):
            return [self.name]
        # A folder is the thing of its name too: one cannot be where the other is.
        own = [self.name] if self.is_tree else [self.name, _tree(self.node)]
        return [*own, *map(_tree, self.above)]

    @property
    def overlapped_by(self) -> list[str]:
        """The names that overlap it, beside those that begin with `below`."""
        return [*self.covered_by, self.node] if self.below is not None and self.node != self.below else self.covered_by

    def overlaps(self, other: "Resource") -> bool:
        """Say whether anything could be meant by both."""
        return self.name == other.name or _holds(self, other) or _holds(other, self)

    def covers(self, other: "Resource") -> bool:
        """Say whether all that the other may mean is meant by this."""
        return self.name == other.name or _holds(self, other)


def _tree(node: str) -> str:
    return f"{node}{EVERYTHING}" if node.endswith(":") else f"{node}/{EVERYTHING}"


def _holds(tree: Resource, other: Resource) -> bool:
    return tree.below is not None and (other.name.startswith(tree.below) or f"{other.name}/" == tree.below)


def of_task(task_id: object) -> Resource:
    """Return the resource that a task is."""
    return Resource(f"{TASK}:{task_id}")


def parsed(text: str, *, field: str = "resource") -> Resource:
    """Return the resource that a caller named. Raises InvalidInput that says what is wrong with it."""
    name = unicodedata.normalize("NFC", text)
    kind, colon, path = name.partition(":")
    if not colon or not re.fullmatch("[a-z][a-z0-9-]{0,39}", kind):
        raise InvalidInput(field, text, WANTED)
    if kind == TASK:
        raise InvalidInput(field, text, "a resource; a task is claimed with federation_claim_task")
    if len(name) > LONGEST:
        raise InvalidInput(field, text, f"at most {LONGEST} characters")
    path = path.removeprefix("/")
    if flaw := _flaw(path):
        raise InvalidInput(field, text, f"{WANTED}; {flaw}")
    return Resource(f"{kind}:{path}")


def _flaw(path: str) -> str | None:
    parts = path.split("/")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in path):
        return "without control characters"
    if len(parts) > DEEPEST:
        return f"at most {DEEPEST} parts deep"
    if path.endswith("/") and path != "/":
        return f"a folder ends with /{EVERYTHING}"
    if any(part in {"", ".", ".."} for part in parts):
        return "the path from the root, without empty parts, . and .."
    if "*" in path.removesuffix(EVERYTHING) or ("*" in path and parts[-1] != EVERYTHING):
        return f"* stands only in /{EVERYTHING} at the end"
    return None
