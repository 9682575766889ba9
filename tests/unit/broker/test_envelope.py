"""A kombu message survives the trip, its body is readable by anybody, and what others sent is a message too."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.broker.envelope import ENVELOPE, HEADER_CHARACTERS, pack, pack_again, unpack
from federation.broker.errors import HeaderRefused, MessageTooLarge
from federation.broker.frames import Decoder, Frame, encode
from federation.broker.message import Message
from federation.broker.peer_headers import PROPERTIES

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)


def message(body: str | bytes = b"[]", headers: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    properties.setdefault("delivery_info", {"exchange": "work", "routing_key": "key"})
    return {"body": body, "content-type": "application/json", "content-encoding": "utf-8", "headers": headers or {}, "properties": properties}


def over_the_wire(headers: dict[str, str], body: bytes) -> Frame:
    (frame,) = Decoder().feed(encode("MESSAGE", headers, body))
    return frame


def trip(sent: dict[str, Any]) -> dict[str, Any]:
    return unpack(over_the_wire(*pack(sent, "/queue/q", max_bytes=10**8)), "q")


# Two names are those of options, which the transport reads wherever they stand. A message whose task could be no key is a stranger's.
@given(st.binary(max_size=200), st.dictionaries(TEXT.filter(lambda name: name not in {*PROPERTIES, "task"}), JSON, max_size=4))
def test_body_headers_and_properties_come_back(body: bytes, headers: dict[str, Any]) -> None:
    received = trip(message(body, headers, correlation_id="c", reply_to="r", priority=3))
    assert (received["body"], received["headers"]) == (body, headers)
    assert received["properties"].items() >= {"correlation_id": "c", "reply_to": "r", "priority": 3}.items()
    assert received["delivery_info"].items() >= {"exchange": "work", "routing_key": "key", "redelivered": False}.items()


def test_a_plain_client_reads_the_body_as_it_is() -> None:
    headers, body = pack(message('[[1], {"ä": 2}, {}]'), "/queue/q", max_bytes=10**6)
    assert json.loads(body) == [[1], {"ä": 2}, {}]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("text", ["x" * 50_000, '"\\:' * 9_000, "ü" * 9_000])
def test_headers_longer_than_a_line_of_activemq_are_spread(text: str) -> None:
    headers, _ = pack(message(headers={"long": text}), "/queue/q", max_bytes=10**6)
    line_length = max(len(line) for line in encode("SEND", headers).split(b"\n"))
    assert line_length < 10 * 1024
    assert len(headers[ENVELOPE]) <= HEADER_CHARACTERS
    assert trip(message(headers={"long": text}))["headers"] == {"long": text}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"task": "sample.add", "id": "1"},
        {ENVELOPE: "{"},
        {ENVELOPE: "[]"},
        {ENVELOPE: '{"headers": 1, "properties": {}}'},
        {ENVELOPE: '{"headers": {"task": []}, "properties": {}}'},
        {ENVELOPE: '{"headers": {"__type__": "datetime", "__value__": "no date"}, "properties": {}}'},
    ],
)
def test_a_message_of_another_client_is_passed_on_undecoded(headers: dict[str, str]) -> None:
    frame = over_the_wire({**headers, "content-type": "application/json"}, b'{"task": []}')
    received = Message.from_frame(frame, queue="q", channel=None, delivery_tag=1, consumer_tag="t")
    assert received.body == received.decode() == b'{"task": []}'
    assert received.headers["stomp"].items() >= headers.items()
    assert "task" not in received.headers


def test_without_a_word_on_it_a_message_is_persistent() -> None:
    assert pack(message(), "/queue/q", max_bytes=10**6)[0]["persistent"] == "true"
    assert "persistent" not in pack(message(delivery_mode=1), "/queue/q", max_bytes=10**6)[0]


def test_sent_again_it_is_marked_as_redelivered_and_keeps_its_rank() -> None:
    headers, body = pack(message(priority=7, expiration="60000"), "/queue/q", max_bytes=10**6)
    frame = over_the_wire({**headers, "ack": "a", "message-id": "m", "subscription": "1"}, body)
    again = pack_again(frame, "/queue/other")
    assert again.items() >= {"destination": "/queue/other", "priority": "7", "expires": headers["expires"]}.items()
    assert not again.keys() & {"ack", "message-id", "subscription"}
    assert unpack(over_the_wire(again, body), "q")["delivery_info"]["redelivered"] is True


def test_a_message_over_the_limit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(MessageTooLarge, match="maxFrameSize"):
        pack(message(b"x" * 11), "/queue/q", max_bytes=10)


@pytest.mark.parametrize(("wanted", "sent"), [(None, "0"), (-1, "0"), (0, "0"), (9, "9"), (10, "9"), (255, "9"), ("7", "7")])
def test_a_priority_beyond_what_the_broker_tells_apart_counts_as_the_nearest(wanted: Any, sent: str) -> None:
    headers, _ = pack(message(priority=wanted), "/queue/q", max_bytes=10**6)
    assert headers["priority"] == sent


@pytest.mark.parametrize("wanted", ["high", [1], float("inf"), float("nan")])
def test_a_priority_that_is_no_number_is_refused(wanted: Any) -> None:
    with pytest.raises(HeaderRefused, match="priority is a whole number"):
        pack(message(priority=wanted), "/queue/q", max_bytes=10**6)
