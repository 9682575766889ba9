"""Why a place was found."""

from federation.vectors.snippets import why

TEXT = "def reopen(self):\n    pass\n    self.connections.ensureOpened()\n"


def test_words_of_the_question_that_occur_in_it_with_the_line_that_has_most() -> None:
    assert why("where is a connection opened again?", "broker/link.py", "Link.reopen", TEXT) == (["connection", "opened"], 2)


def test_words_of_path_and_name_count_and_have_no_line() -> None:
    assert why("the broker", "broker/link.py", "Link", "pass") == (["broker"], None)
    assert why("nothing of this", "a.py", "", "pass") == ([], None)
    assert why("", "", "", "") == ([], None)
