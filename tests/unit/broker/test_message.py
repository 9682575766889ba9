"""A message whose reading is struck by a signal's handler is not taken for one with a bad body, and one that was packed small stays small."""

import bz2
import json
import lzma
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import serialization
from kombu.compression import compress
from kombu.exceptions import DecodeError

from federation.broker.frames import MAX_FRAME_BYTES, Frame
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


def packed(body: bytes, method: Any) -> Message:
    envelope = json.dumps({"headers": {"task": "t", "compression": method}, "properties": {}, "content_encoding": "utf-8"})
    headers = {"message-id": "1", "destination": "/queue/q", "subscription": "1", "content-type": "application/json", "kombu": envelope}
    made = Message.from_frame(Frame("MESSAGE", headers, body), queue="q", channel=None, delivery_tag=1, consumer_tag=None)
    made.accept = {"application/json"}
    return made


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "application/x-gzip"])
def test_a_compressed_body_is_read_as_it_was_sent(method: str) -> None:
    body, kind = compress(b'[["x"], {}, null]', method)
    found = packed(body, kind)
    assert (found.decode(), found.body, found.headers["compression"]) == ([["x"], {}, None], b'[["x"], {}, null]', kind)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma"])
def test_a_body_that_was_packed_small_does_not_fill_the_memory(method: str) -> None:
    pack: Any = {"gzip": zlib.compressobj, "bzip2": bz2.BZ2Compressor, "lzma": lzma.LZMACompressor}[method]()
    zeros = bytes(2**20)
    body = b"".join([pack.compress(zeros) for _ in range(3 * MAX_FRAME_BYTES // 2**20)]) + pack.flush()
    assert len(body) < MAX_FRAME_BYTES / 100
    tracemalloc.start()
    found = packed(body, method)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.2 * MAX_FRAME_BYTES
    assert found.body == body
    with pytest.raises(DecodeError, match="more than"):
        found._reraise_error()


def test_a_body_that_asks_for_a_large_table_is_not_read() -> None:
    body = bytearray(lzma.compress(b"[[], {}, null]", lzma.FORMAT_ALONE))
    # The size of the table that is made before anything is read.
    body[1:5] = (2**30).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="Memory usage limit"):
        packed(bytes(body), "lzma")._reraise_error()


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "zstd", "nothing", 5, ["x"]])
def test_what_is_not_compressed_as_it_says_is_an_error_of_the_body(method: Any) -> None:
    for body in (b"[[], {}, null]", compress(b"[[], {}, null]", "gzip")[0][:-1]):
        with pytest.raises(DecodeError, match="compress"):
            packed(body, method)._reraise_error()
