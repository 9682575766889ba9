"""Cutting files into chunks."""

import inspect
import textwrap

import kombu.pidbox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.vectors.chunking import Chunk, chunk_file
from federation.vectors.pieces import MAX_WORDS
from federation.vectors.sources import MAX_BYTES, Skipped
from federation.vectors.wording import count_words


def chunks_of(path: str, text: str) -> list[Chunk]:
    chunks = chunk_file(path, textwrap.dedent(text).encode())
    assert isinstance(chunks, list)
    return chunks


def titles(chunks: list[Chunk]) -> list[tuple[str, str]]:
    return [(chunk.kind, chunk.title) for chunk in chunks]


FILLER = "\n".join(f"        value_{number} = compute_something(alpha, beta)" for number in range(20))
SOURCE = f'''
"""What the module is for."""
import os

LIMIT = 3

# Comment of f.
def f(x):
    return x

if os.name == "posix":
    @decorated
    async def g():
        pass

class Small:
    def only(self): pass

class Large(Small):
    """A large class."""

    def first(self):
{FILLER}

    # About second.
    def second(self):
{FILLER}
'''


def test_python_is_cut_by_its_definitions() -> None:
    assert titles(chunks_of("m.py", SOURCE)) == [
        ("module", ""),
        ("function", "f"),
        ("function", "g"),
        ("class", "Small"),
        ("class", "Large"),
        ("method", "Large.first"),
        ("method", "Large.second"),
    ]


def test_methods_of_a_class_are_chunks_of_their_own_when_it_is_longer_than_one_chunk() -> None:
    head = "class Counter:\n    def first(self):\n        return 1\n\n    def second(self):\n"
    lines = "        total = total + one\n"
    room = (MAX_WORDS - count_words(head)) // count_words(lines)
    assert titles(chunks_of("m.py", head + lines * room)) == [("class", "Counter")]
    longer = titles(chunks_of("m.py", head + lines * (room + 1)))
    assert {("method", "Counter.first"), ("method", "Counter.second")} <= set(longer)


def test_comment_and_decorator_belong_to_the_definition_below_them() -> None:
    by_title = {chunk.title: chunk.text for chunk in chunks_of("m.py", SOURCE)}
    assert by_title["g"].lstrip().startswith(('if os.name == "posix":', "@decorated"))
    assert by_title["Large.second"].lstrip().startswith("# About second.")


def test_long_function_is_cut_by_lines_into_even_pieces() -> None:
    body = "\n".join(f"    first_word_{number} = second_word" for number in range(100))
    chunks = chunks_of("m.py", f"def long():\n{body}\n")
    sizes = [count_words(chunk.text) for chunk in chunks]
    assert {chunk.title for chunk in chunks} == {"long"}
    assert max(sizes) <= MAX_WORDS * 1.1
    assert min(sizes) > MAX_WORDS / 2


@pytest.mark.parametrize("module", [kombu.pidbox, textwrap])
def test_every_line_with_a_word_is_in_exactly_the_chunks_that_name_it(module: object) -> None:
    source = inspect.getsource(module)  # type: ignore[arg-type]
    lines = source.split("\n")
    covered: set[int] = set()
    for chunk in chunks_of("m.py", source):
        assert chunk.text == "\n".join(lines[chunk.start_line - 1 : chunk.end_line])
        span = set(range(chunk.start_line, chunk.end_line + 1))
        assert not covered & span
        covered |= span
    assert [number for number, line in enumerate(lines, 1) if count_words(line) and number not in covered] == []


def test_python_that_does_not_compile_is_still_cut() -> None:
    assert ("function", "fine") in titles(chunks_of("m.py", "def broken(:\n    pass\n\ndef fine():\n    return 1\n"))


def test_deeply_nested_python_does_not_exhaust_the_stack() -> None:
    classes = "".join(" " * depth + f"class C{depth}:\n" for depth in range(1200)) + " " * 1200 + "x = 1\n"
    assert chunks_of("m.py", classes)


def test_markdown_is_cut_by_headings_outside_of_code() -> None:
    text = "intro\n\n# One\ntext\n\n## Two\n```sh\n# no heading\n```\n\n# Three ##\nend\n"
    assert titles(chunks_of("a.md", text)) == [("section", ""), ("section", "One"), ("section", "One › Two"), ("section", "Three")]


def test_short_paragraphs_share_a_chunk_and_long_ones_are_cut() -> None:
    long = " ".join(f"word{number}" for number in range(1000))
    chunks = chunks_of("a.txt", f"one\n\ntwo\n\n{long}\n")
    assert chunks[0].text == "one\n\ntwo"
    assert all(count_words(chunk.text) <= MAX_WORDS * 1.6 for chunk in chunks)
    assert " ".join(chunk.text for chunk in chunks[1:]) == long


def test_hash_ignores_where_a_chunk_stands_but_not_what_it_is() -> None:
    before = {chunk.title: chunk.content_hash for chunk in chunks_of("m.py", "def a():\n    return 1\n\ndef b():\n    return 2\n")}
    moved = {chunk.title: chunk.content_hash for chunk in chunks_of("m.py", "import os\n\n\ndef b():\n    return 2\n\ndef a():\n    return 3\n")}
    assert moved["b"] == before["b"]
    assert moved["a"] != before["a"]
    assert chunks_of("other.py", "def b():\n    return 2\n")[0].content_hash != before["b"]


def test_same_text_under_the_same_title_is_one_chunk() -> None:
    chunks = chunks_of("m.py", "def a():\n    return 1\n\ndef a():\n    return 1\n")
    assert len({chunk.content_hash for chunk in chunks}) == len(chunks) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a\0b", "binary"), (b"\xff\xfe", "not UTF-8: byte 0"), (b"a" * (MAX_BYTES + 1), "huge"), (b"", "empty"), (b" \n\n", "empty")],
)
def test_content_that_is_no_text_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    skipped = chunk_file("a.py", content)
    assert isinstance(skipped, Skipped)
    assert reason in skipped.reason


@given(st.text(max_size=400), st.sampled_from(["a.py", "a.md", "a.txt"]))
def test_no_text_breaks_the_chunker_and_no_word_is_lost(text: str, path: str) -> None:
    chunks = chunk_file(path, text.encode(errors="ignore"))
    if isinstance(chunks, list):
        assert all(1 <= chunk.start_line <= chunk.end_line for chunk in chunks)
        assert all(count_words(chunk.text) for chunk in chunks)
    elif "\0" not in text:
        assert count_words(text.encode(errors="ignore").decode("utf-8-sig")) == 0
