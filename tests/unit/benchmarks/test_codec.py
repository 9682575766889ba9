"""The two codecs that are measured beside each other agree on every frame that is measured."""

from stomp import utils

from benchmarks.codec import frames, stomp_py_encode
from federation.broker.frames import Decoder, encode


def test_both_write_the_same_frame() -> None:
    headers, body, _ = frames()
    (ours,), (theirs,) = Decoder().feed(encode("SEND", headers, body)), Decoder().feed(stomp_py_encode(dict(headers), body))
    assert ours == theirs


def test_both_read_the_same_frame() -> None:
    _, _, received = frames()
    (ours,), theirs = Decoder().feed(received), utils.parse_frame(received[:-1])
    assert (ours.command, ours.headers, ours.body) == (theirs.cmd, theirs.headers, theirs.body)
