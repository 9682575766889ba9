"""Why a place was found."""

from federation.vectors.snippets import Question

TEXT = "def reopen(self):\n    pass\n    self.connections.ensureOpened()\n"


def test_words_of_the_question_that_occur_in_it_with_the_line_that_has_most() -> None:
    assert Question("where is a connection opened again?").why("broker/link.py", "Link.reopen", TEXT) == (["connection", "opened"], 2)


def test_words_of_path_and_name_count_and_have_no_line() -> None:
    assert Question("the broker").why("broker/link.py", "Link", "pass") == (["broker"], None)
    assert Question("nothing of this").why("a.py", "", "pass") == ([], None)
    assert Question("").why("", "", "") == ([], None)


def test_two_words_of_one_stem_are_both_found_wherever_one_is() -> None:
    asked = Question("opens what was opened")
    for _ in range(2):
        assert asked.why("a.py", "", "reopen()\nopening = 1") == (["opens", "opened"], 1)
