"""Source code by its syntax tree: functions, methods, classes, and what is left of the file; also of files that do not compile."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final

from tree_sitter import Language, Node, Parser

from federation.vectors.languages import CLASS, MODULE, Syntax
from federation.vectors.pieces import MAX_WORDS, Lines, Piece, cut

# A shorter run between two definitions is a comment or a constant of the next one.
_RUN_WORDS: Final = 12
# Scopes nested deeper are cut by lines; real code has three.
_MAX_DEPTH: Final = 20
# Where the name of a definition may stand, in the order in which it is looked for.
_NAMES: Final = ("name", "declarator", "type")
# What stands right above a definition and belongs to it.
_ABOVE: Final = frozenset({"comment", "line_comment", "block_comment", "attribute_item"})


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    kind: str
    first: int
    last: int
    body: Node | None


@cache
def _language(package: str, grammar: str) -> Language:
    # Each is a library of up to 3 MB: only those that a tree has are loaded.
    return Language(getattr(import_module(package), grammar)())


def _text(node: Node | None) -> str:
    return node.text.decode("utf-8", "replace") if node is not None and node.text is not None else ""


def _name(node: Node) -> str:
    """Return the name of a definition; empty if it has none."""
    found = next((child for each in _NAMES if (child := node.child_by_field_name(each)) is not None), None)
    # In C the name is inside what is declared: `static char *(*name(int a))[3]`.
    while found is not None and (inner := found.child_by_field_name("declarator") or _inside(found)) is not None:
        found = inner
    name = " ".join(_text(found).split())
    receiver = node.child_by_field_name("receiver")  # of a method in Go
    if receiver is not None and receiver.named_children:
        owner = _text(receiver.named_children[0].child_by_field_name("type")).lstrip("*").partition("[")[0]
        return f"{owner}.{name}"
    return name.partition("<")[0].replace("::", ".") if node.type == "impl_item" else name.replace("::", ".")


def _inside(node: Node) -> Node | None:
    return next(iter(node.named_children), None) if node.type in {"parenthesized_declarator", "reference_declarator"} else None


class _Finder:
    """Finds the definitions right below a node, in order; those inside one another it leaves to who asks again."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax

    def below(self, node: Node) -> Iterator[_Definition]:
        stack = [(child, child) for child in reversed(node.named_children)]
        while stack:
            child, outer = stack.pop()
            found = self._definition(child, outer)
            if found is not None:
                yield found
            elif child.type in self._syntax.wrappers:
                # What is wrapped alone takes the wrapper's lines, and each of several its own.
                inner = child.named_children
                alone = sum(map(self._can_be, inner)) <= 1
                stack.extend((each, outer if alone else each) for each in reversed(inner))
            elif child.type in self._syntax.entered:
                stack.extend((each, each) for each in reversed(child.named_children))

    def _can_be(self, node: Node) -> bool:
        syntax = self._syntax
        return node.type in syntax.functions or node.type in syntax.scopes or node.type in syntax.bound or node.type in syntax.wrappers

    def _definition(self, node: Node, outer: Node) -> _Definition | None:
        syntax, kind = self._syntax, "function"
        if not (node.type in syntax.functions or node.type in syntax.scopes or node.type in syntax.bound):
            return None
        name, body = _name(node), node.child_by_field_name("body")
        if node.type in syntax.bound:
            named, valued = (node.child_by_field_name(each) for each in syntax.bound[node.type])
            if valued is None or valued.type not in syntax.values:
                return None
            name, body = _text(named), valued.child_by_field_name("body")
            kind = syntax.scopes.get(valued.type, kind)
        elif node.type in syntax.scopes:
            kind = syntax.scopes[node.type]
            # `struct point p;` names a type and defines none.
            if body is None and node.type.endswith("_specifier"):
                return None
        # A typedef has its name behind the body.
        name = name or (_text(outer.child_by_field_name("declarator")) if outer is not node else "")
        return _Definition(name, kind, _first_line(outer), outer.end_point[0], body) if name else None


def _first_line(node: Node) -> int:
    """Return the first line of a node with the comments right above it."""
    first = node.start_point[0]
    above = node.prev_named_sibling
    while above is not None and above.type in _ABOVE and _last_line(above) == first - 1:
        # One that stands behind code belongs to that.
        before = above.prev_named_sibling
        if before is not None and _last_line(before) == above.start_point[0]:
            break
        first, above = above.start_point[0], before
    return first


def _last_line(node: Node) -> int:
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point[0] else row


class _Cutter:
    def __init__(self, syntax: Syntax, lines: Lines, max_words: int) -> None:
        self._finder, self._lines, self._max_words = _Finder(syntax), lines, max_words

    def _cut(self, first: int, last: int, kind: str, title: str) -> list[Piece]:
        return cut(self._lines, first, last, kind=kind, title=title, max_words=self._max_words)

    def _whole(self, found: _Definition, first: int, scope: str, kind: str, depth: int) -> list[Piece]:
        title = f"{scope}.{found.name}" if scope else found.name
        if found.kind == "function":
            # Go says of what type a method is by its name.
            return self._cut(first, found.last, "method" if kind == CLASS or "." in found.name else "function", title)
        if found.body is None or depth >= _MAX_DEPTH or (found.kind == CLASS and self._lines.count(first, found.last) <= self._max_words):
            return self._cut(first, found.last, found.kind, title)
        return self.scope(found.body, first, found.last, title=title, kind=found.kind, depth=depth + 1)

    def scope(self, node: Node, first: int, last: int, *, title: str, kind: str, depth: int) -> list[Piece]:
        """Return the pieces of a file, a class or a namespace between two lines."""
        pieces: list[Piece] = []
        cursor = first
        for found in self._finder.below(node):
            if found.last < cursor:
                continue  # on a line that a definition before it has
            start = max(found.first, cursor)
            if start > cursor and (cursor == first or self._lines.count(cursor, start - 1) >= _RUN_WORDS):
                pieces += self._cut(cursor, start - 1, kind, title)
                cursor = start
            pieces += self._whole(found, min(cursor, start), title, kind, depth)
            cursor = found.last + 1
        return pieces + self._cut(cursor, last, kind, title)


def code_pieces(syntax: Syntax, text: str, *, max_words: int = MAX_WORDS) -> list[Piece]:
    """Return the pieces of a source file in order, titled by qualified name; the file's own have no title."""
    lines = Lines(text)
    tree = Parser(_language(syntax.package, syntax.grammar)).parse(text.encode())
    return _Cutter(syntax, lines, max_words).scope(tree.root_node, 0, lines.last, title="", kind=MODULE, depth=0)
