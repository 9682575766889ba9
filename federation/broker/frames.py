"""STOMP 1.2 frames as bytes in, values out; opens no socket and never holds more than one frame's limit."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from federation.broker.errors import ProtocolError

MAX_HEAD_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 100 * 1024 * 1024
LARGE_BODY = 64 * 1024
HEARTBEAT = b"\n"

# STOMP 1.2, «Value Encoding»: CONNECT and CONNECTED are the two frames that escape nothing.
_UNESCAPED = frozenset(("CONNECT", "CONNECTED"))
_COMMANDS = frozenset(b"CONNECTED MESSAGE RECEIPT ERROR CONNECT STOMP SEND SUBSCRIBE UNSUBSCRIBE ACK NACK BEGIN COMMIT ABORT DISCONNECT".split())
_COMMAND_NAMES = frozenset(command.decode() for command in _COMMANDS)
_LONGEST_COMMAND = max(map(len, _COMMANDS)) + 1
_LINE_ENDS = re.compile(rb"[\r\n]*")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPED = {"\\": "\\", "c": ":", "n": "\n", "r": "\r"}


class Frame(NamedTuple):
    """One frame; headers are unescaped, the body is bytes."""

    command: str
    headers: Mapping[str, str]
    body: bytes = b""


def escape(text: str) -> str:
    """Return a header's name or value as it goes over the wire."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if ":" in text:
        text = text.replace(":", "\\c")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    return text


def _unescape_one(match: re.Match[str]) -> str:
    try:
        return _ESCAPED[match[1]]
    except KeyError:
        raise ProtocolError(f"undefined escape {match[0]!r} in a header") from None


def unescape(text: str) -> str:
    """Return what `escape` was given.

    Raises ProtocolError for an escape that STOMP 1.2 does not define.
    """
    if "\\" not in text:
        return text
    if "\\\\" not in text:
        # The common case of broker headers, without a call for each match.
        plain = text.replace("\\c", ":")
        if "\\" not in plain:
            return plain
    return _ESCAPE.sub(_unescape_one, text)


def encode(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a frame; a body always brings its content-length, so that it may hold NUL."""
    plain = command in _UNESCAPED
    lines = [command]
    for name, value in headers.items():
        lines.append(f"{name}:{value}" if plain else f"{escape(name)}:{escape(value)}")
    if body or command == "SEND":
        lines.append(f"content-length:{len(body)}")
    return b"%b\n\n%b\0" % ("\n".join(lines).encode(), body)


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("the head of a frame is not UTF-8") from error
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    command, *lines = text.split("\n")
    escaped = command not in _UNESCAPED and "\\" in text
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError(f"a header without a colon: {line[:80]!r}")
        if escaped and "\\" in line:
            name, value = unescape(name), unescape(value)
        # STOMP 1.2, «Repeated Header Entries»: the first one counts.
        if name not in headers:
            headers[name] = value
    return command, headers


class Decoder:
    """Bytes in any pieces in, whole frames out; between frames it swallows the line ends that are heart-beats."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES, *, max_head_bytes: int = MAX_HEAD_BYTES) -> None:
        self._max_body = max_frame_bytes
        self._max_head = min(max_head_bytes, max_frame_bytes)
        self._buffer = bytearray()
        self._searched = 0
        self._head: tuple[str, dict[str, str]] | None = None
        self._body_length: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes and return the frames that they complete.

        Raises ProtocolError if the bytes cannot be STOMP 1.2 or a frame is too large; the decoder is of no use after that.
        """
        self._buffer += data
        frames: list[Frame] = []
        position = 0
        while True:
            if self._head is None:
                position = _LINE_ENDS.match(self._buffer, position).end()  # type: ignore[union-attr]  # it fits anything
                after = self._take_head(position)
                if after is None:
                    break
                position = after
            taken = self._take_body(position)
            if taken is None:
                break
            body, position = taken
            command, headers = self._head  # type: ignore[misc]  # _take_head has just set it
            self._head = None
            frames.append(Frame(command, headers, body))
        # Once a call, not once a frame: deleting from the front moves what remains.
        del self._buffer[:position]
        self._searched = max(0, self._searched - position)
        return frames

    def _take_head(self, start: int) -> int | None:
        found = _END_OF_HEAD.search(self._buffer, max(start, self._searched - 2))
        if found is None:
            self._refuse_garbage(start)
            self._searched = len(self._buffer)
            return None
        if found.start() - start > self._max_head:
            raise ProtocolError(f"the head of a frame is longer than {self._max_head} bytes")
        command, headers = _parse_head(bytes(self._buffer[start : found.start()]))
        if command not in _COMMAND_NAMES:
            raise ProtocolError(f"{command[:40]!r} is no STOMP command")
        self._head = command, headers
        self._body_length = self._read_length(headers)
        self._searched = found.end()
        return found.end()

    def _read_length(self, headers: Mapping[str, str]) -> int | None:
        given = headers.get("content-length")
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= 18):
            raise ProtocolError(f"content-length {given[:40]!r} is no number of bytes")
        length = int(given)
        if length > self._max_body:
            raise ProtocolError(f"a body of {length} bytes is larger than the limit of {self._max_body}")
        return length

    def _refuse_garbage(self, start: int) -> None:
        waiting = len(self._buffer) - start
        if waiting > self._max_head:
            raise ProtocolError(f"the head of a frame is longer than {self._max_head} bytes")
        # A peer that speaks something else shows it in its first line: do not wait for more of it.
        line = bytes(self._buffer[start : start + _LONGEST_COMMAND]).split(b"\n", 1)
        word = line[0].rstrip(b"\r")
        ended = len(line) == 2 or waiting >= _LONGEST_COMMAND
        if (ended and word not in _COMMANDS) or not any(command.startswith(word) for command in _COMMANDS):
            raise ProtocolError(f"{word[:40]!r} is no STOMP command")

    def _take_body(self, start: int) -> tuple[bytes, int] | None:
        buffer = self._buffer
        if self._body_length is not None:
            end = start + self._body_length
            if len(buffer) <= end:
                return None
            if buffer[end]:
                raise ProtocolError("a body does not end with NUL where its content-length says")
        else:
            end = buffer.find(0, max(start, self._searched))
            if end < 0:
                self._searched = len(buffer)
                if len(buffer) - start > self._max_body:
                    raise ProtocolError(f"a body is larger than the limit of {self._max_body} bytes")
                return None
        self._searched = end + 1
        if end - start < LARGE_BODY:
            return bytes(buffer[start:end]), end + 1
        # A slice of a bytearray is a copy more.
        with memoryview(buffer) as view:
            return bytes(view[start:end]), end + 1
