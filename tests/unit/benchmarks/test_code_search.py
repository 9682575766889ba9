"""Docstrings as questions: what is taken out, what it was about, and which chunks answer."""

from benchmarks.code_search import corpus
from benchmarks.code_search.definitions import take_out
from federation.vectors.chunking import Chunk, chunk_file

SOURCE = '''"""About the module, in more words than four."""


class Link:
    """Holds one connection to somebody else."""

    def reopen(self, töpf="ß"): """Connects once more after the line was lost."""; return töpf

    async def send(self):
        """Sends."""
        return 1


def plain():
    """Reopens what was closed before.

    And more.
    """
'''


def test_a_docstring_is_taken_out_and_all_lines_stay_where_they_are() -> None:
    source, found = take_out("a.py", SOURCE)
    assert '"""' not in source
    assert [line.strip() for line in source.split("\n")][6:10] == ['def reopen(self, töpf="ß"): ; return töpf', "", "async def send(self):", ""]
    assert len(source.split("\n")) == len(SOURCE.split("\n"))
    assert [(one.title, one.first, one.last, one.question) for one in found] == [
        ("Link", 4, 11, "Holds one connection to somebody else."),
        ("Link.reopen", 7, 7, "Connects once more after the line was lost."),
        ("plain", 14, 18, "Reopens what was closed before."),
    ]


def test_a_question_that_has_a_part_of_the_name_is_told() -> None:
    _, found = take_out("a.py", SOURCE.replace("Reopens what was", "Is plainly what was"))
    assert {one.title: one.is_named_in_its_question for one in found} == {"Link": False, "Link.reopen": False, "plain": True}


def test_the_library_is_asked_about_what_it_has() -> None:
    chunks, questions = corpus.without_docstrings(300_000)
    assert len(questions) > 20
    assert corpus.without_docstrings(300_000) == (chunks, questions)
    for question in questions:
        for place in question.answers:
            chunk: Chunk = chunks[place]
            assert chunk.path == question.about.path
            assert question.about.question not in " ".join(chunk.text.split())
    assert isinstance(chunk_file("a.py", b"def f():\n    pass\n"), list)
