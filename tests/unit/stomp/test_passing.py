"""What an agent may say to ActiveMQ: whatever bytes it writes, what is passed on has the headers and the places of the list, and no others."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.broker.errors import ProtocolError
from federation.broker.frames import Decoder, Frame, encode
from federation.errors import InvalidInput, PermanentError, Refused
from federation.security.claimed_senders import claims_sender
from federation.stomp.passing import MOST_BODY_BYTES, MOST_HEAD_BYTES, MOST_SUBSCRIPTIONS, Passage, presented

MINE, INBOX, BROADCAST = "/queue/federation.from.bob", "/queue/federation.bob", "/topic/federation.broadcast"
ALLOWED = {
    "SEND": {"destination", "receipt", "content-type", "persistent", "expires", "to", "conversation", "in-reply-to", "federation-id"},
    "SUBSCRIBE": {"destination", "id", "ack", "receipt", "activemq.prefetchSize"},
    "UNSUBSCRIBE": {"id", "receipt"},
    "ACK": {"id", "receipt"},
    "NACK": {"id", "receipt"},
    "DISCONNECT": {"receipt"},
}
PLACES = {"SEND": {MINE}, "SUBSCRIBE": {INBOX, BROADCAST}}
ACTED_UPON = (
    *("selector", "SELECTOR", "transaction", "reply-to", "transformation", "transformation-error", "AMQ_SCHEDULED_CRON", "AMQ_SCHEDULED_REPEAT"),
    *("amq_scheduled_delay", "AMQ_SCHEDULED_agent", "activemq.prefetchSize", "activemq.subscriptionName", "activemq.exclusive", "JMSXGroupID"),
    *("JMSReplyTo", "JMSXUserID", "durable", "durable-subscription-name", "durable-subscriber-name", "subscriptionName", "client-id", "browser"),
    *("no-local",),
)

names = st.one_of(
    st.sampled_from(sorted({*set.union(*ALLOWED.values()), *ACTED_UPON, "content-length", "priority", "type", "sender", "x-agent", "ack ", " id"})),
    st.text(max_size=20),
)
values = st.one_of(st.sampled_from([MINE, INBOX, BROADCAST, f"{MINE},{BROADCAST}", "/queue/>", "true", "client", "7", ""]), st.text(max_size=30))
commands = st.sampled_from([*ALLOWED, "BEGIN", "COMMIT", "ABORT", "CONNECT", "STOMP", "MESSAGE", "RECEIPT", "ERROR", "CONNECTED"])
frames = st.builds(Frame, commands, st.dictionaries(names, values, max_size=6), st.binary(max_size=40))
fitting = st.sampled_from(
    [
        Frame("SUBSCRIBE", {"id": "1", "destination": INBOX}),
        Frame("SEND", {"destination": MINE, "receipt": "r"}, b"hello"),
        Frame("UNSUBSCRIBE", {"id": "1"}),
        Frame("ACK", {"id": "ID\\:1"}),
    ]
)
# What others write for a frame, with what a careless reader would take for something else.
lines = st.one_of(
    st.sampled_from([b"SEND", b"SUBSCRIBE", b"", b"\0", b"destination:" + MINE.encode(), b"destination:/queue/>", b"id:1", b"content-length:3"]),
    st.sampled_from([b"content-length:0", b"a\\nselector:x", b"to:a\\r\\nselector\\cb", b"sel\\ector:1", b"\r", b"receipt:\0", b"body\0SEND"]),
    st.binary(max_size=12),
)


def is_allowed(frame: Frame) -> bool:
    extra = frame.headers.keys() - ALLOWED[frame.command]
    if frame.command == "SEND":
        extra = {name for name in extra if not claims_sender(name)}
    places = PLACES.get(frame.command)
    return not extra and (places is None or frame.headers["destination"] in places) and (frame.command == "SEND" or not frame.body)


@given(st.lists(st.one_of(frames, fitting), max_size=8))
def test_no_frame_that_is_passed_has_a_header_or_a_place_that_is_not_allowed(said: list[Frame]) -> None:
    passage = Passage("bob")
    for frame in said:
        try:
            passed = passage.passed(frame)
        except PermanentError:
            continue
        assert is_allowed(passed), passed
        assert not any(re.search(r"[\x00-\x1f\x7f]", text) for header in passed.headers.items() for text in header)
        # What ActiveMQ reads is what was looked at here.
        [again] = Decoder().feed(encode(*passed))
        assert again._replace(headers={name: value for name, value in again.headers.items() if name != "content-length"}) == passed


@given(st.lists(lines, max_size=12).map(b"\n".join), st.integers(1, 30))
def test_whatever_bytes_come_what_goes_on_is_allowed(data: bytes, size: int) -> None:
    decoder, passage = Decoder(MOST_BODY_BYTES, max_head_bytes=MOST_HEAD_BYTES), Passage("bob")
    try:
        for start in range(0, len(data), size):
            for frame in decoder.feed(data[start : start + size]):
                assert is_allowed(passage.passed(frame))
    except (ProtocolError, PermanentError):
        pass


def test_what_is_known_passes_and_what_nobody_acts_upon_is_left_out() -> None:
    passage = Passage("bob")
    headers = {"destination": MINE, "receipt": "1", "persistent": "true", "expires": "9", "content-type": "application/json", "to": "eve"}
    sent = Frame("SEND", {**headers, "priority": "9", "x-trace": "7", "content-length": "2", "x-agent": "bob"}, b"{}")
    assert passage.passed(sent) == Frame("SEND", {**headers, "x-agent": "bob"}, b"{}")
    subscribed = passage.passed(Frame("SUBSCRIBE", {"id": "1", "destination": INBOX, "ack": "client-individual"}))
    assert subscribed.headers == {"id": "1", "destination": INBOX, "ack": "client-individual", "activemq.prefetchSize": "100"}
    assert passage.passed(Frame("SUBSCRIBE", {"id": "2", "destination": BROADCAST})).headers == {"id": "2", "destination": BROADCAST, "ack": "auto"}
    for frame in (Frame("ACK", {"id": "a"}), Frame("NACK", {"id": "a", "receipt": "2"}), Frame("UNSUBSCRIBE", {"id": "1"}), Frame("DISCONNECT", {})):
        assert passage.passed(frame) == frame


@pytest.mark.parametrize("name", ACTED_UPON)
@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "ACK", "DISCONNECT"])
def test_what_activemq_would_act_upon_is_refused_by_name(command: str, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"header {re.escape(name)}: got"):
        Passage("bob").passed(Frame(command, {"destination": MINE, "id": "1", name: "x"}))


@pytest.mark.parametrize("command", ["BEGIN", "COMMIT", "ABORT"])
def test_there_are_no_transactions(command: str) -> None:
    with pytest.raises(Refused, match="There are no transactions here"):
        Passage("bob").passed(Frame(command, {"transaction": "t"}))


@pytest.mark.parametrize(
    "place", [INBOX, "/queue/federation.from.eve", "/queue/federation.from.*", f"{MINE},{BROADCAST}", f"{MINE} ", MINE.upper(), ""]
)
def test_who_speaks_elsewhere_is_refused(place: str) -> None:
    with pytest.raises(InvalidInput, match="header destination"):
        Passage("bob").passed(Frame("SEND", {"destination": place}))


@pytest.mark.parametrize("place", [MINE, "/queue/federation.eve", "/queue/>", "/queue/federation.*", "/topic/>", f"{INBOX}?consumer.exclusive=true"])
def test_who_listens_elsewhere_is_refused(place: str) -> None:
    with pytest.raises(InvalidInput, match="header destination"):
        Passage("bob").passed(Frame("SUBSCRIBE", {"destination": place, "id": "1"}))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Frame("SEND", {"destination": MINE, "persistent": "TRUE"}), "header persistent"),
        (Frame("SEND", {"destination": MINE, "expires": "soon"}), "header expires"),
        (Frame("SEND", {"destination": MINE, "to": "a\nselector:x"}), "header to"),
        (Frame("SEND", {"destination": MINE, "receipt": "x" * 1001}), "header receipt"),
        (Frame("SEND", {"destination": MINE, **{str(number): "x" for number in range(50)}}), "headers: got 51, wants at most 50"),
        (Frame("SUBSCRIBE", {"destination": INBOX}), "header id"),
        (Frame("SUBSCRIBE", {"destination": INBOX, "id": "1", "ack": "never"}), "header ack"),
        (Frame("SUBSCRIBE", {"destination": BROADCAST, "id": "1", "ack": "client"}), "header ack"),
        (Frame("UNSUBSCRIBE", {"id": "1"}), "header id"),
        (Frame("ACK", {"message-id": "1"}), "header id"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(frame: Frame, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Passage("bob").passed(frame)


def test_subscriptions_of_a_connection_have_ids_of_their_own_and_are_not_many() -> None:
    passage = Passage("bob")
    for number in range(MOST_SUBSCRIPTIONS):
        passage.passed(Frame("SUBSCRIBE", {"destination": INBOX, "id": str(number)}))
    with pytest.raises(InvalidInput, match="header id"):
        passage.passed(Frame("SUBSCRIBE", {"destination": BROADCAST, "id": "0"}))
    with pytest.raises(Refused, match=f"may have {MOST_SUBSCRIPTIONS} subscriptions"):
        passage.passed(Frame("SUBSCRIBE", {"destination": INBOX, "id": "one more"}))
    passage.passed(Frame("UNSUBSCRIBE", {"id": "0"}))
    passage.passed(Frame("SUBSCRIBE", {"destination": INBOX, "id": "one more"}))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Frame("SEND", {"passcode": "t"}), "begins with CONNECT"),
        (Frame("CONNECT", {"passcode": "t"}), "header accept-version"),
        (Frame("CONNECT", {"accept-version": "1.0,1.1", "passcode": "t"}), "header accept-version"),
        (Frame("CONNECT", {"accept-version": "1.2"}), "header passcode"),
        (Frame("CONNECT", {"accept-version": "1.2", "passcode": "t", "client-id": "me"}), "header client-id"),
        (Frame("CONNECT", {"accept-version": "1.2", "passcode": "t", "heart-beat": "1"}), "header heart-beat"),
        (Frame("CONNECT", {"accept-version": "1.2", "passcode": "t", "heart-beat": "-1,0"}), "header heart-beat"),
    ],
)
def test_a_login_that_does_not_fit_is_refused_by_name(frame: Frame, why: str) -> None:
    with pytest.raises(PermanentError, match=why):
        presented(frame)


def test_heart_beats_are_neither_more_often_than_a_second_nor_more_than_activemq_can_count() -> None:
    def beats(said: str) -> tuple[int, int]:
        return presented(Frame("STOMP", {"accept-version": "1.1,1.2", "passcode": "t", "heart-beat": said})).beats

    assert [beats(said) for said in ("0,0", "1,30000", "9999999999,0")] == [(0, 0), (1000, 30000), (2**31 - 1, 0)]
