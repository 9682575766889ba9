"""What may be read as text and what is refused, with the reason; nothing is dropped in silence."""

from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is not indexed; `reason` is for people."""

    path: str
    reason: str


def decoded(path: str, content: bytes) -> str | Skipped:
    """Return the text of a file, or why it is none."""
    if len(content) > MAX_BYTES:
        return Skipped(path, f"huge: {len(content)} bytes, at most {MAX_BYTES} are indexed")
    if b"\0" in content:
        return Skipped(path, "binary: it has NUL bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Skipped(path, f"not UTF-8: byte {error.start} does not decode")
