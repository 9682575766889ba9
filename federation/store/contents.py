"""What is in artifacts: files in a folder that machines may share, each named by its SHA-256; written whole, and checked when it is read."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from federation.errors import Conflict, ContentChanged, ContentsUnavailable
from federation.settings import Settings, variable

Progress = Callable[[int], None]
_PIECE = 2**20
_DRAFTS = "drafts"
# What a crash left of a file that was being written; nobody writes one for so long.
_DRAFT_LASTS_S = 86_400
_MOST_CHECKED = 4096
# A file that changes twice within one tick of its clock looks the same: until then it is read anew.
_TICK_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What was put: its digest, and its size in bytes."""

    sha256: str
    size: int


class Contents:
    """The folder of one federation; what was once found right is not read through again while its file stays untouched."""

    def __init__(self, folder: Path, *, makes: bool = True) -> None:
        """`makes`: whether the folder is made if it is not there; one that is a mount must be."""
        self.folder, self._makes = folder, makes
        self._checked: dict[str, tuple[int, ...]] = {}

    def put(self, source: BinaryIO, size: int, *, progress: Progress = lambda done: None) -> Stored:
        """Keep all that is read, `size` bytes, on the disk when this returns; the same content twice is one file.

        Nobody ever sees half of it: it is written under another name, and renamed. Raises Conflict if there are more bytes or fewer,
        ContentsUnavailable.
        """
        with _told("written; nothing was recorded"):
            draft = self._drafts() / uuid.uuid4().hex
            try:
                stored = _written(draft, source, size, progress)
                self._keep(draft, stored.sha256)
            finally:
                draft.unlink(missing_ok=True)
        return stored

    def part(self, sha256: str, offset: int, length: int) -> bytes:
        """Return so many bytes of a content, all of which was checked. Raises ContentChanged, ContentsUnavailable."""
        with self._opened(sha256) as file:
            before = _state(file)
            if self._checked.get(sha256) == before:
                part = os.pread(file.fileno(), length, offset)
                if _state(file) == before:
                    return part
            kept, at = bytearray(), 0
            for piece in _right(file, sha256):
                kept += piece[max(offset - at, 0) : max(offset + length - at, 0)]
                at += len(piece)
            self._remember(sha256, before, _state(file))
        return bytes(kept)

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Yield a whole content; behind the last piece raises ContentChanged if they are worth nothing, or ContentsUnavailable before."""
        with self._opened(sha256) as file:
            yield from _right(file, sha256)

    def _place(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _drafts(self) -> Path:
        """Return where files are written that are not whole yet, on the disk of the others."""
        if not self._makes and not self.folder.is_dir():
            raise ContentsUnavailable(f"{variable('artifacts_dir')} names a folder that is not there; make it or mount it, then call again")
        drafts = self.folder / _DRAFTS
        for folder in (self.folder, drafts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for draft in drafts.iterdir():
            # Another machine may be about to rename it, or to forget it too.
            with suppress(FileNotFoundError):
                if draft.stat().st_mtime < time.time() - _DRAFT_LASTS_S:
                    draft.unlink()
        return drafts

    def _keep(self, draft: Path, sha256: str) -> None:
        place = self._place(sha256)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        # A file that is right stays, because on NFS others may be reading it; one that was altered is put right.
        if not _holds(place, sha256):
            draft.replace(place)
        # Also where somebody else has just renamed his: what is recorded next must outlive a loss of power.
        for folder in (place.parent, self.folder):
            _sync(folder)

    def _remember(self, sha256: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        *_, changed_ns = after
        if before == after and time.time_ns() - changed_ns > _TICK_NS:
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[sha256] = after

    @contextmanager
    def _opened(self, sha256: str) -> Iterator[BinaryIO]:
        with _told("read"):
            try:
                file = self._place(sha256).open("rb")
            except FileNotFoundError as error:
                raise ContentChanged(sha256, None) from error
            with file:
                yield file


def contents(config: Settings) -> Contents:
    """Return the folder that the settings name."""
    return Contents(config.artifacts_dir or config.data_dir / "artifacts", makes=config.artifacts_dir is None)


@contextmanager
def _told(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = f"the folder of artifacts cannot be {done}: {error.strerror}; an operator sees to it (`federation doctor`), then call again"
        raise ContentsUnavailable(told) from error


def _written(draft: Path, source: BinaryIO, size: int, progress: Progress) -> Stored:
    digest, done = hashlib.sha256(), 0
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while done <= size and (piece := source.read(_PIECE)):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done)
        file.flush()
        os.fsync(file.fileno())
    if done != size:
        raise Conflict(f"the file has {'more' if done > size else 'fewer'} bytes than the {size} that it had; put it again when nobody writes to it")
    return Stored(digest.hexdigest(), done)


def _right(file: BinaryIO, sha256: str) -> Iterator[bytes]:
    """Yield all of a file piece by piece. Raises ContentChanged behind the last one if together they are something else."""
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
        yield piece
    if (found := digest.hexdigest()) != sha256:
        raise ContentChanged(sha256, found)


def _holds(place: Path, sha256: str) -> bool:
    try:
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _state(file: BinaryIO) -> tuple[int, ...]:
    """Return what becomes another with each change of a file; the last is when."""
    seen = os.stat(file.fileno())
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
