"""Cuts many files at a time, in processes that import nothing but the cutter: Python cuts one after the other in each.

`python -m federation.vectors.cutting` is such a process. It is told names and answers with pieces, each a line of JSON, and ends with who started it.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from federation.errors import TransientError
from federation.vectors.chunking import Chunk, chunk_file
from federation.vectors.scan import UNREADABLE, read_file
from federation.vectors.sources import Skipped

# Fewer are cut sooner than a process has started.
_FEW: Final = 100
# Files that a process is told at once.
_AT_ONCE: Final = 16
# More would wait for who takes what they have cut.
_MOST_PROCESSES: Final = 4
_COMMAND: Final = (sys.executable, "-m", "federation.vectors.cutting")
# Of a chunk, all but the path of its file.
_PARTS: Final = attrgetter("kind", "title", "start_line", "end_line", "text", "content_hash")


@dataclass(frozen=True, slots=True)
class Cut:
    """A file that was read, and its pieces; `sha256` and `size` are of the bytes that were read."""

    path: str
    sha256: str
    size: int
    chunks: Sequence[Chunk]


Found: TypeAlias = Cut | Skipped


def cut(root: Path, path: str) -> Found:
    """Read a file that a scan listed, and cut it."""
    try:
        content = read_file(root, path)
    except OSError as error:
        return Skipped(path, f"{UNREADABLE}: {error.strerror or error}")
    chunks = chunk_file(path, content)
    return chunks if isinstance(chunks, Skipped) else Cut(path, hashlib.sha256(content).hexdigest(), len(content), chunks)


def cut_all(root: Path, paths: Sequence[str]) -> Iterator[Found]:
    """Yield what comes of each of these files, in their order. Raises TransientError if a process ends before its time."""
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    if len(paths) < _FEW or processes < 2:
        yield from (cut(root, path) for path in paths)
        return
    with ExitStack() as stack:
        idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for _ in range(processes):
            child = stack.enter_context(_process())
            idle.put(child)

        def cut_some(some: Sequence[str]) -> list[Found]:
            child = idle.get()
            try:
                return _told(child, root, some)
            finally:
                idle.put(child)

        threads = stack.enter_context(ThreadPoolExecutor(processes, thread_name_prefix="cut"))
        yield from chain.from_iterable(threads.map(cut_some, [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]))


@contextmanager
def _process() -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: the signals to the worker's are not for it, which ends when its input does.
    child = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child
    finally:
        # One that has ended takes no farewell.
        with suppress(OSError):
            child.stdin.close()
        child.stdout.close()
        child.wait()


def _told(child: subprocess.Popen[bytes], root: Path, paths: Sequence[str]) -> list[Found]:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps([str(root), list(paths)]).encode() + b"\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    except OSError as error:
        raise TransientError(f"a process that cuts files has ended: {error}") from error
    if not answer:
        raise TransientError(f"a process that cuts files has ended with {child.wait()}")
    return [_read(*each) for each in json.loads(answer)]


def _written(found: Found) -> list[Any]:
    if isinstance(found, Skipped):
        return [found.path, found.reason]
    return [found.path, found.sha256, found.size, [_PARTS(chunk) for chunk in found.chunks]]


def _read(path: str, *rest: Any) -> Found:
    if len(rest) == 1:
        return Skipped(path, *rest)
    sha256, size, chunks = rest
    return Cut(path, sha256, size, [Chunk(path, *chunk) for chunk in chunks])


def _serve() -> None:
    for line in sys.stdin.buffer:
        root, paths = json.loads(line)
        sys.stdout.buffer.write(json.dumps([_written(cut(Path(root), path)) for path in paths]).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
