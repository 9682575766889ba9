"""Walks a tree for files to index; follows no link, leaves no root, changes nothing."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.errors import InvalidInput, Refused
from federation.vectors import ignoring, secret_files
from federation.vectors.ignoring import Rules
from federation.vectors.sources import MAX_BYTES, Skipped, decoded, plain_bytes

UNREADABLE: Final = "cannot be read"
IGNORED: Final = "left out by .gitignore"
GONE: Final = "no folder any more"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to index; `path` is relative to the root, with slashes; `sha256` is of its bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a walk found, both sorted by path."""

    files: tuple[SourceFile, ...]
    skipped: tuple[Skipped, ...]


def require_inside(path: Path, roots: Sequence[Path]) -> Path:
    """Return `path` with its links resolved; no roots allow every path.

    Raises Refused if it lies below none of `roots`.
    """
    real = path.resolve()
    if roots and not any(real.is_relative_to(root.resolve()) for root in roots):
        raise Refused(
            f"{real} lies outside the folders that may be indexed ({', '.join(map(str, roots))}).",
            "Choose a path below them, or let the operator add it to FEDERATION_INDEX_ROOTS.",
        )
    return real


def require_apart(path: Path, secret: Sequence[Path], *, but: Path) -> None:
    """Pass if `path` neither lies in a folder of secrets nor holds one; what lies below `but` passes.

    Raises Refused.
    """
    if path.is_relative_to(but.resolve()):
        return
    for folder in (each.resolve() for each in secret):
        if path.is_relative_to(folder) or folder.is_relative_to(path):
            raise Refused(f"{folder} holds the federation's own passwords and data.", "Choose a folder that does not contain it.")


def read_file(root: Path, path: str) -> bytes:
    """Return the bytes of a file that a scan listed, at most MAX_BYTES + 1 of them.

    Raises OSError if it is gone, unreadable or a link or pipe by now.
    """
    return plain_bytes(root / path, MAX_BYTES + 1)


def _link(entry: os.DirEntry[str], path: str, root: Path) -> Skipped:
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return Skipped(path, "a link that leads nowhere")
    if not target.is_relative_to(root):
        return Skipped(path, "a link that leaves the tree")
    return Skipped(path, f"a link; read as {target.relative_to(root).as_posix()}")


def _refusal(entry: os.DirEntry[str], path: str) -> Skipped | None:
    if not entry.is_file(follow_symlinks=False):
        return Skipped(path, "neither a file nor a folder")
    if secret := secret_files.by_name(entry.name):
        return Skipped(path, secret)
    if entry.name.startswith("."):
        return Skipped(path, "hidden")
    size = entry.stat(follow_symlinks=False).st_size
    return Skipped(path, f"huge: {size} bytes, at most {MAX_BYTES} are indexed") if size > MAX_BYTES else None


def _look_at(entry: os.DirEntry[str], path: str, root: Path) -> SourceFile | Skipped:
    if entry.is_symlink():
        return _link(entry, path, root)
    if refusal := _refusal(entry, path):
        return refusal
    content = read_file(root, path)
    text = decoded(path, content)
    return text if isinstance(text, Skipped) else SourceFile(path, len(content), hashlib.sha256(content).hexdigest())


def _folder_refusal(entry: os.DirEntry[str], path: str) -> Skipped | None:
    if entry.name == "__pycache__":
        return Skipped(path, "made by Python from the sources")
    return Skipped(path, "hidden") if entry.name.startswith(".") else None


def _walk(folder: Path, prefix: str, root: Path, outer: Rules | None) -> Iterator[SourceFile | Skipped]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(prefix or ".", f"{UNREADABLE}: {error.strerror}")
        return
    rules = ignoring.within(folder, outer) if any(entry.name == ignoring.FILE for entry in entries) else outer
    for entry in entries:
        path = prefix + entry.name
        if path != path.encode("utf-8", "replace").decode():
            yield Skipped(path.encode("utf-8", "backslashreplace").decode(), "its name is not UTF-8")
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and (refusal := _folder_refusal(entry, path)):
            yield refusal
        elif rules is not None and rules.ignores(entry.path, is_folder=is_folder):
            yield Skipped(path, IGNORED)
        elif is_folder:
            yield from _walk(Path(entry.path), path + "/", root, rules)
        else:
            try:
                yield _look_at(entry, path, root)
            except OSError as error:
                yield Skipped(path, f"{UNREADABLE}: {error.strerror or error}")


def scan(root: Path, *, may_be_gone: bool = False) -> Scan:
    """Return the files below `root` that can be indexed and, with reasons, what cannot; of one that may be gone, nothing where it is.

    Raises InvalidInput if `root` is no folder.
    """
    real = root.resolve()
    if not real.is_dir():
        if may_be_gone:
            return Scan((), (Skipped(".", GONE),))
        raise InvalidInput("path", str(root), "a folder that exists on this node")
    found = list(_walk(real, "", real, ignoring.above(real)))
    return Scan(
        tuple(each for each in found if isinstance(each, SourceFile)),
        tuple(each for each in found if isinstance(each, Skipped)),
    )
