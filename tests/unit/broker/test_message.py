"""A message whose reading is struck by a signal's handler is not taken for one with a bad body, which Celery would acknowledge."""

from collections.abc import Iterator
from typing import Any

import pytest
from kombu import serialization
from kombu.exceptions import DecodeError

from federation.broker.frames import Frame
from federation.broker.message import Message


@pytest.fixture
def content_type() -> Iterator[str]:
    """Of bodies whose first reading is struck."""
    strikes = [NotImplementedError("raised by a signal's handler")]

    def decode(body: Any) -> Any:
        if strikes:
            raise strikes.pop()
        if body != b"good":
            raise ValueError("bad")
        return "read"

    serialization.register("struck", str, decode, "application/x-struck", "binary")
    yield "application/x-struck"
    serialization.unregister("struck")


def message(body: bytes, content_type: str) -> Message:
    headers = {"message-id": "1", "destination": "/queue/q", "subscription": "1", "content-type": content_type}
    made = Message.from_frame(Frame("MESSAGE", headers, body), queue="q", channel=None, delivery_tag=1, consumer_tag=None)
    made.content_type, made.content_encoding, made.accept = content_type, "binary", {content_type}
    return made


def test_what_struck_a_good_body_comes_out_as_it_is(content_type: str) -> None:
    struck = message(b"good", content_type)
    with pytest.raises(NotImplementedError, match="handler"):
        struck.decode()
    assert struck.decode() == "read"


def test_a_bad_body_is_an_error_of_the_body_also_when_struck(content_type: str) -> None:
    with pytest.raises(DecodeError):
        message(b"evil", content_type).decode()
