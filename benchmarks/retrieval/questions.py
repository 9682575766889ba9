"""The questions of `questions.toml`; asks none."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources


class Part(StrEnum):
    """Settings are chosen by one half of the questions and judged by the other."""

    SELECTION = "selection"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Question:
    """What a developer would ask about a package, and the file that answers; `file` starts at the package."""

    part: Part
    package: str
    text: str
    file: str


def load() -> Sequence[Question]:
    """Return all questions in their order."""
    parts = tomllib.loads((resources.files("benchmarks.retrieval") / "questions.toml").read_text())
    return [Question(part, asked["package"], asked["question"], asked["file"]) for part in Part for asked in parts[part]]
