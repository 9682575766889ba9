"""What a model wrote stands for what was said only if it is whole, shorter, and names nothing that was not said."""

import pytest

from federation.engines.contracts import Completion, FinishReason
from federation.errors import AnswerMisfits
from federation.tasks.abstracts import MAX_TOKENS, _check

TALK = "ada: The worker grows by 200 MB an hour.\nbob: The cache has no limit. I will give it one on Friday."


def check(text: str, reason: FinishReason = "stop") -> None:
    _check(Completion(text, 10, 10, reason, 0.1), source=TALK, names=["ada", "bob", "eve"])


def test_what_names_only_what_was_said_is_taken() -> None:
    check("Ada saw the worker grow by 200 MB an hour; bob limits the cache on Friday.")


@pytest.mark.parametrize(
    ("text", "reason", "why"),
    [
        (" \n", "stop", "the model wrote nothing"),
        ("The worker grows.", "length", f"the model wrote more than {MAX_TOKENS} tokens"),
        (TALK, "stop", "no shorter than what was said"),
        ("Eve saw it grow by 300 MB on Monday.", "stop", "named what was not said: Eve, 300, Monday"),
    ],
)
def test_what_is_not_is_refused_with_the_reason(text: str, reason: FinishReason, why: str) -> None:
    with pytest.raises(AnswerMisfits, match=why):
        check(text, reason)
