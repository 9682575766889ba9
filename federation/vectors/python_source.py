"""Python files by their syntax tree: functions, methods, classes, and what is left of the module; also of files that do not compile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import tree_sitter_python
from tree_sitter import Language, Node, Parser

from federation.vectors.pieces import MAX_WORDS, Piece, cut
from federation.vectors.wording import count_words

_LANGUAGE: Final = Language(tree_sitter_python.language())
_COMPOUND: Final = frozenset(
    {
        *("module", "block", "if_statement", "elif_clause", "else_clause", "try_statement", "except_clause", "finally_clause"),
        *("with_statement", "for_statement", "while_statement", "ERROR"),
    }
)
# A shorter run between two definitions is a comment or a constant of the next one.
_RUN_WORDS: Final = 12
# Classes nested deeper are cut by lines; real code has three.
_MAX_DEPTH: Final = 20


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    is_class: bool
    first: int
    last: int
    body: Node


def _definitions(node: Node) -> Iterator[_Definition]:
    """Yield the classes and functions below `node` in order, also those inside `if` and `try`, not those inside one another."""
    stack = list(reversed(node.named_children))
    while stack:
        child = stack.pop()
        inner = child
        if child.type == "decorated_definition":
            inner = child.child_by_field_name("definition") or child
        if inner.type in ("class_definition", "function_definition"):
            name, body = inner.child_by_field_name("name"), inner.child_by_field_name("body")
            if name is not None and name.text is not None and body is not None:
                yield _Definition(name.text.decode(), inner.type == "class_definition", child.start_point[0], child.end_point[0], body)
        elif child.type in _COMPOUND:
            stack.extend(reversed(child.named_children))


class _Cutter:
    def __init__(self, lines: Sequence[str], max_words: int) -> None:
        self._lines, self._max_words = lines, max_words

    def _words(self, first: int, last: int) -> int:
        return count_words("\n".join(self._lines[first : last + 1]))

    def _cut(self, first: int, last: int, kind: str, title: str) -> list[Piece]:
        return cut(self._lines, first, last, kind=kind, title=title, max_words=self._max_words)

    def _whole(self, definition: _Definition, first: int, scope: str, depth: int) -> list[Piece]:
        title = f"{scope}.{definition.name}" if scope else definition.name
        if not definition.is_class:
            return self._cut(first, definition.last, "method" if depth else "function", title)
        if depth >= _MAX_DEPTH or self._words(first, definition.last) <= self._max_words:
            return self._cut(first, definition.last, "class", title)
        return self.scope(definition.body, first, definition.last, title=title, depth=depth + 1)

    def scope(self, node: Node, first: int, last: int, *, title: str, depth: int) -> list[Piece]:
        """Return the pieces of a module (depth 0) or a class between two lines."""
        kind = "class" if depth else "module"
        pieces: list[Piece] = []
        cursor = first
        for definition in _definitions(node):
            start = definition.first
            if start > cursor and (cursor == first or self._words(cursor, start - 1) >= _RUN_WORDS):
                pieces += self._cut(cursor, start - 1, kind, title)
                cursor = start
            pieces += self._whole(definition, min(cursor, start), title, depth)
            cursor = max(cursor, definition.last + 1)
        return pieces + self._cut(cursor, last, kind, title)


def python_pieces(text: str, *, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return the pieces of a Python file in order, titled by qualified name; the module's own have no title."""
    # tree-sitter counts lines by \n only, str.splitlines also by form feeds and others.
    lines = text.split("\n")
    tree = Parser(_LANGUAGE).parse(text.encode())
    return _Cutter(lines, max_words).scope(tree.root_node, 0, len(lines) - 1, title="", depth=0)
