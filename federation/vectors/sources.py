"""What may be read as text and what is refused, with the reason; nothing is dropped in silence."""

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final

from federation.vectors import secret_files

MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is not indexed; `reason` is for people."""

    path: str
    reason: str


def plain_bytes(path: Path, limit: int) -> bytes:
    """Return the beginning of a plain file. Raises OSError if it is gone, unreadable, or a link or pipe."""
    # What turns into a link or a pipe after somebody looked must neither leave the tree nor block the reader.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is not a plain file")
        return file.read(limit)


def decoded(path: str, content: bytes) -> str | Skipped:
    """Return the text of a file, or why it is none."""
    if len(content) > MAX_BYTES:
        return Skipped(path, f"huge: {len(content)} bytes, at most {MAX_BYTES} are indexed")
    if b"\0" in content:
        return Skipped(path, "binary: it has NUL bytes")
    if secret := secret_files.by_content(content):
        return Skipped(path, secret)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Skipped(path, f"not UTF-8: byte {error.start} does not decode")
