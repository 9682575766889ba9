"""What an agent says over STOMP and does not fit is refused in words of the message, and not of the program."""

import json

import pytest

from federation.broker.frames import Frame
from federation.delivery.spoken import read
from federation.errors import InvalidInput

REFUSED = {
    "a name for a source": ({"source": "eve"}, "source: got 'eve', wants an object"),
    "another field in a source": ({"source": {"name": "bob"}}, "source.name: got 'bob', wants no such field; there is agent, session"),
    "another field in a state": (
        {"type": "state", "state": {"summary": "x", "role": "lead"}},
        "state.role: got 'lead', wants no such field; there is action, cap",
    ),
    "another field": ({"content": "x", "session": "INC-1"}, "session: got 'INC-1', wants no such field; there is action, confirm"),
    "too long": ({"content": "x" * 100_001}, "content: got 'xxxxxxxxxxxx...xxxxxxxxxxxxx', wants at most 100000 characters"),
    "a number for a text": ({"content": 7}, "content: got 7, wants a text"),
    "a word for true": ({"content": "x", "confirm": "yes"}, "confirm: got 'yes', wants true or false"),
    "nothing in a state": ({"type": "state", "state": {}}, "state.summary: got None, wants a value"),
    "words for a finding": ({"type": "finding", "finding": "x"}, "finding: got 'x', wants an object"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field(what: str) -> None:
    message, why = REFUSED[what]
    with pytest.raises(InvalidInput) as refused:
        read(Frame("SEND", {}, json.dumps(message).encode()), "bob")
    assert str(refused.value).startswith(why)
