"""The codec: what goes in comes out under any chunking, and garbage neither hangs nor grows."""

import ast
import contextlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from federation.broker import frames as codec
from federation.broker.errors import ProtocolError
from federation.broker.frames import Decoder, Frame, encode, escape, unescape

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
NAMES = TEXT.filter(lambda name: name != "content-length")
COMMANDS = st.sampled_from(["SEND", "MESSAGE", "RECEIPT", "ERROR", "ACK", "SUBSCRIBE"])
FRAMES = st.builds(Frame, COMMANDS, st.dictionaries(NAMES, TEXT, max_size=6), st.binary(max_size=300))


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def decode(chunks: list[bytes], **limits: int) -> list[Frame]:
    decoder = Decoder(**limits)
    return [frame for chunk in chunks for frame in decoder.feed(chunk)]


def without_length(frame: Frame) -> Frame:
    headers = {name: value for name, value in frame.headers.items() if name != "content-length"}
    return Frame(frame.command, headers, frame.body)


def test_the_codec_has_nothing_to_open_a_socket_with() -> None:
    named = [node for node in ast.walk(ast.parse(Path(codec.__file__).read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in named}
    assert modules == {"re", "collections.abc", "typing", "federation.broker.errors"}


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([b"", b"\n", b"\r\n\n"]))
@example([Frame("MESSAGE", {"a:b\\c\n": "\r\\n"}, b"\0\n\n\0")], [1, 2, 3], b"\n")
def test_any_chunking_gives_back_the_frames(frames: list[Frame], cuts: list[int], heartbeats: bytes) -> None:
    wire = b"".join(heartbeats + encode(*frame) for frame in frames)
    assert [without_length(frame) for frame in decode(in_chunks(wire, cuts))] == frames


@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_byte_by_byte_gives_back_the_frames(frames: list[Frame]) -> None:
    wire = b"".join(encode(*frame) for frame in frames)
    assert [without_length(frame) for frame in decode([wire[n : n + 1] for n in range(len(wire))])] == frames


@given(TEXT)
def test_escaping_is_undone(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & {":", "\n", "\r"}


def feed_all(chunks: list[bytes], limit: int) -> list[Frame]:
    """Feed pieces to a decoder that holds never more than its limit, and stop where it refuses them."""
    decoder = Decoder(max_frame_bytes=limit)
    frames: list[Frame] = []
    with contextlib.suppress(ProtocolError):
        for chunk in chunks:
            frames += decoder.feed(chunk)
            assert decoder.buffered <= limit
    return frames


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_garbage_is_refused_or_waits_within_its_bound(data: bytes, cuts: list[int]) -> None:
    feed_all(in_chunks(data, cuts), 64)


# What is nearly STOMP gets further in than what is not at all.
PIECES = st.sampled_from(
    [
        *(b"MESSAGE", b"RECEIPT", b"CONNECTED", b"a:b\n", b"content-length:3\n", b"x" * 40),
        *(b"\n", b"\r\n", b"\n\n", b"\0", b":", b"\\", b"\\c", b"\\t", b"\xff"),
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=40).map(b"".join), st.lists(st.integers(0, 1000), max_size=6))
def test_what_looks_like_stomp_is_refused_or_waits_within_its_bound(data: bytes, cuts: list[int]) -> None:
    frames = feed_all(in_chunks(data, cuts), 64)
    assert sum(len(frame.body) for frame in frames) <= len(data)


@given(st.lists(FRAMES, min_size=1, max_size=2), st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 4))
def test_damaged_frames_raise_nothing_but_the_protocols_error(frames: list[Frame], place: int, inserted: bytes, removed: int) -> None:
    wire = b"".join(encode(*frame) for frame in frames)
    place %= len(wire)
    feed_all([wire[:place] + inserted + wire[place + removed :]], 1 << 20)


@given(st.lists(FRAMES, min_size=1, max_size=2), st.integers(0, 2000))
def test_the_beginning_of_a_stream_is_never_refused(frames: list[Frame], length: int) -> None:
    wire = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    got = decoder.feed(wire[:length])
    assert [without_length(frame) for frame in got + decoder.feed(wire[length:])] == frames
    assert decoder.buffered == 0


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param([b"MESSAGE\n", b"a:b\n"], id="headers"),
        pytest.param([b"MESSAGE\n", b"a" * 16], id="one header"),
        pytest.param([b"MESSAGE\n\n", b"body"], id="body without length"),
    ],
)
def test_an_endless_frame_is_refused_at_the_limit(endless: list[bytes]) -> None:
    decoder = Decoder(max_frame_bytes=1000)
    first, again = endless
    decoder.feed(first)
    fed = 0
    with pytest.raises(ProtocolError, match="longer than|larger than"):  # noqa: RUF043 - either
        while fed < 10_000:
            fed += len(again)
            decoder.feed(again)
    assert fed <= 1000 + len(again)


def test_endless_heartbeats_are_not_kept() -> None:
    decoder = Decoder()
    for _ in range(100):
        assert decoder.feed(b"\n\r\n" * 1000) == []
        assert decoder.buffered == 0


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"AMQP\0\0\x09\x01",
        b"-ERR unknown command\r\n",
        b"\x16\x03\x01\x02",
        b"220 mail ready\r\n",
    ],
)
def test_another_protocol_is_refused_at_its_first_bytes(greeting: bytes) -> None:
    with pytest.raises(ProtocolError, match="no STOMP command"):
        Decoder().feed(greeting)


def test_a_body_without_length_ends_at_nul() -> None:
    assert decode([b"MESSAGE\na:1\n\nhel", b"lo\0\n\nRECEIPT\nreceipt-id:7\n\n\0"]) == [
        Frame("MESSAGE", {"a": "1"}, b"hello"),
        Frame("RECEIPT", {"receipt-id": "7"}),
    ]


def test_carriage_returns_end_lines_too() -> None:
    assert decode([b"MESSAGE\r\na:1\r\ncontent-length:2\r\n\r\n\r\n\0"]) == [Frame("MESSAGE", {"a": "1", "content-length": "2"}, b"\r\n")]


def test_the_first_of_repeated_headers_counts() -> None:
    assert decode([b"MESSAGE\na:1\na:2\n\n\0"])[0].headers == {"a": "1"}
    assert decode([b"MESSAGE\ncontent-length:3\ncontent-length:1\n\na\0c\0"])[0].body == b"a\0c"


def test_a_header_may_be_empty_and_may_hold_colons_and_nul() -> None:
    assert decode([b"MESSAGE\na:\n:b\nc:d:e\0\n\n\0"])[0].headers == {"a": "", "": "b", "c": "d:e\0"}


def test_connected_is_not_unescaped() -> None:
    assert decode([b"CONNECTED\nserver:a\\cb:c\n\n\0"])[0].headers == {"server": "a\\cb:c"}


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"MESSAGE\na\\tb:1\n\n\0", "undefined escape"),
        (b"MESSAGE\nno colon\n\n\0", "without a colon"),
        (b"MESSAGE\na:\xff\n\n\0", "not UTF-8"),
        (b"MESSAGE\ncontent-length:-1\n\n\0", "no number"),
        (b"MESSAGE\ncontent-length:\n\n\0", "no number"),
        ("MESSAGE\ncontent-length:\u0663\n\n\0".encode(), "no number"),
        (b"MESSAGE\ncontent-length:99999999999999999999\n\n\0", "no number"),
        (b"RECEIPT\nreceipt-id:1\n\0RECEIPT\n\n\0", "without a colon"),
        (b"MESSAGE\na:b\\\n\n\0", "undefined escape"),
        (b"MESSAGE\ncontent-length:1000\n\n", "larger than the limit"),
        (b"MESSAGE\ncontent-length:1\n\nab\0", "does not end with NUL"),
        (b"MESSAGE\n" + b"a" * 200, "longer than"),
        (b"MESSAGE\n\n" + b"a" * 200, "larger than the limit"),
    ],
)
def test_what_breaks_the_protocol_is_refused_with_its_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        Decoder(max_frame_bytes=100).feed(wire)


def test_a_large_body_in_small_pieces_takes_linear_time() -> None:
    body = bytes(range(256)) * 4096 * 4
    wire = encode("MESSAGE", {}, body)
    frames = decode([wire[n : n + 4096] for n in range(0, len(wire), 4096)])
    assert [frame.body for frame in frames] == [body]
