"""Takes compression off a body, as far as it could have been sent without; whoever may write to a queue would fill its reader's memory otherwise."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from kombu.exceptions import DecodeError

from federation.broker.frames import MAX_FRAME_BYTES

# What kombu has with Python alone, by its names of them. What a table of lzma's takes it asks for before it reads any.
_METHODS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), lambda: lzma.LZMADecompressor(memlimit=MAX_FRAME_BYTES)),
}


def unpacked(body: bytes, method: object) -> bytes:
    """Return a body without its compression. Raises DecodeError for one that is longer than a frame, cut off, or packed in another way."""
    if not isinstance(method, str) or method not in _METHODS:
        raise DecodeError(f"its compression {str(method)[:100]!r} is none of {', '.join(_METHODS)}")
    reading = _METHODS[method]()
    try:
        found = bytes(reading.decompress(body, MAX_FRAME_BYTES))
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise DecodeError(f"its body is not compressed by {method}: {error}") from error
    if not reading.eof:
        raise DecodeError(f"its body is cut off, or has more than {MAX_FRAME_BYTES} bytes without its compression by {method}")
    return found
