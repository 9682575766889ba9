"""Docstrings as questions: takes them out of a Python file, and says which lines each was about; asks none."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from federation.vectors.wording import parts_of, split_words

# A shorter docstring says nothing that one could be looking for.
_WORDS = 4
_LONGEST = 60

_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Definition:
    """A function or class whose docstring was taken out of its file; lines count from 1, both ends included."""

    path: str
    title: str
    first: int
    last: int
    question: str

    @property
    def is_named_in_its_question(self) -> bool:
        """Say whether the question has the name or a part of it, also as the beginning of a word."""
        asked = split_words(self.question).split()
        parts = parts_of(self.title.rpartition(".")[2])
        return any(word == part or (len(part) > 2 and word.startswith(part)) for part in parts for word in asked)


def take_out(path: str, source: str) -> tuple[str, list[Definition]]:
    """Return a file with blank lines in the place of its docstrings, and what these were about.

    Raises SyntaxError for a file that does not compile.
    """
    lines = source.split("\n")
    found: list[Definition] = []
    for title, node in _documented(ast.parse(source), ""):
        docstring, told = node.body[0], ast.get_docstring(node)
        first, last = docstring.lineno - 1, (docstring.end_lineno or docstring.lineno) - 1
        # Columns count bytes.
        before, behind = lines[first].encode()[: docstring.col_offset], lines[last].encode()[docstring.end_col_offset or 0 :]
        lines[first : last + 1] = [(before + behind).decode().rstrip(), *[""] * (last - first)]
        question = " ".join(re.split(r"\n\s*\n", told or "")[0].split()[:_LONGEST])
        if not isinstance(node, ast.Module) and len(split_words(question).split()) >= _WORDS:
            found.append(Definition(path, title, node.lineno, node.end_lineno or node.lineno, question))
    return "\n".join(lines), found


def _documented(node: ast.AST, scope: str) -> Iterator[tuple[str, _Documented | ast.Module]]:
    if isinstance(node, ast.Module | _Documented) and ast.get_docstring(node) is not None:
        yield scope, node
    for child in ast.iter_child_nodes(node):
        inner = f"{scope}.{child.name}".lstrip(".") if isinstance(child, _Documented) else scope
        yield from _documented(child, inner)
