"""Seals: signed statements that a range of events was so and not otherwise, each chained to the one before; as values and as lines of a file."""

import base64
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from federation.errors import PermanentError
from federation.security import merkle
from federation.security.signing import PublicKey, SigningKey

VERSION = 1
# The end of a file is read so many bytes at once.
READ_BYTES = 1 << 18


class NotSeals(PermanentError):
    """A file of seals holds something else; its text names the line."""


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal; the events are named by their numbers, and `leaves` are their hashes, 32 bytes each."""

    number: int
    first: int
    last: int
    statement: str
    signature: bytes
    leaves: bytes

    @property
    def digest(self) -> str:
        """What the next seal is chained to."""
        return sha256(self.statement.encode()).hexdigest()

    @property
    def key(self) -> str:
        """The name of the key that says it has signed."""
        return str(json.loads(self.statement)["key"])

    def flaw(self, former: "Seal | None", key: PublicKey) -> str | None:
        """Return what is wrong with this seal as the successor of `former`, None if nothing is."""
        if not key.signed(self.statement.encode(), self.signature):
            return f"its signature is not that of key {key.identity[:16]}"
        said = json.loads(self.statement)
        if (said["seal"], said["first"], said["last"]) != (self.number, self.first, self.last):
            return "it stands under another number or range than was signed"
        expected = (1, 1, None) if former is None else (former.number + 1, former.last + 1, former.digest)
        if (said["seal"], said["first"], said["previous"]) != expected:
            return f"it is not the successor of {'nothing' if former is None else f'seal {former.number}'}"
        return self._flaw_of_leaves(said)

    def _flaw_of_leaves(self, said: dict[str, Any]) -> str | None:
        try:
            leaves = merkle.split(self.leaves)
        except ValueError as error:
            return str(error)
        if len(leaves) != self.last - self.first + 1:
            return f"it has {len(leaves)} hashes for {self.last - self.first + 1} events"
        return None if merkle.root(leaves).hex() == said["root"] else "its hashes do not give the root that was signed"


def make(leaves: Sequence[bytes], former: Seal | None, key: SigningKey, *, at: datetime) -> Seal:
    """Seal the events that follow on the former seal, whose hashes these are."""
    number, first = (1, 1) if former is None else (former.number + 1, former.last + 1)
    said = {
        "version": VERSION,
        "seal": number,
        "first": first,
        "last": first + len(leaves) - 1,
        "root": merkle.root(leaves).hex(),
        "previous": None if former is None else former.digest,
        "sealed_at": at.isoformat(),
        "key": key.public.identity,
    }
    statement = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return Seal(number, first, first + len(leaves) - 1, statement, key.sign(statement.encode()), merkle.joined(leaves))


def line(seal: Seal) -> str:
    """Return a seal as one line of JSON; bytes in base64."""
    told = {
        "number": seal.number,
        "first": seal.first,
        "last": seal.last,
        "statement": seal.statement,
        "signature": base64.b64encode(seal.signature).decode(),
        "leaves": base64.b64encode(seal.leaves).decode(),
    }
    return json.dumps(told, separators=(",", ":"))


def read(path: Path) -> list[Seal]:
    """Return the seals of a file, in its order; an unfinished last line, as a crash leaves it, is none yet.

    Raises NotSeals, FileNotFoundError.
    """
    return [_parsed(path, number, text) for number, text in enumerate(_whole(path.read_bytes()).splitlines(), 1)]


def append(path: Path, seals: Iterable[Seal]) -> None:
    """Add these to a file, which is on the disk when this returns; what a crash left of a line is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        file.truncate(file.seek(_end_of_lines(file)))
        file.writelines(line(seal).encode() + b"\n" for seal in seals)
        file.flush()
        os.fsync(file.fileno())


def last_number(path: Path) -> int:
    """Return the number of the last seal in a file, 0 where there is none. Raises NotSeals."""
    try:
        with path.open("rb") as file:
            lines = _whole(_end(file, lines=2)).splitlines()
    except FileNotFoundError:
        return 0
    return _parsed(path, 0, lines[-1]).number if lines else 0


def _end(file: IO[bytes], *, lines: int) -> bytes:
    """Return the end of a file with at least so many ends of lines in it: a line holds at most some hundred kB, a file any number of them."""
    end, size = b"", file.seek(0, os.SEEK_END)
    while size and end.count(b"\n") < lines:
        step = min(size, READ_BYTES)
        size -= step
        file.seek(size)
        end = file.read(step) + end
    return end


def _end_of_lines(file: IO[bytes]) -> int:
    end = _end(file, lines=1)
    return file.seek(0, os.SEEK_END) - len(end) + len(_whole(end))


def _whole(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _parsed(path: Path, number: int, text: bytes) -> Seal:
    try:
        told = json.loads(text)
        signature, leaves = (base64.b64decode(told[name], validate=True) for name in ("signature", "leaves"))
        # Half a character would be no text that was ever signed.
        str(told["statement"]).encode()
        return Seal(int(told["number"]), int(told["first"]), int(told["last"]), str(told["statement"]), signature, leaves)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise NotSeals(f"{path}: line {number or 'before the end'} is no seal: {error!r}") from error
