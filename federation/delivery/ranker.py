"""Asking for a ranking past the queue: the worker that serves a folder of vectors listens on a socket in it, and who sees that folder asks.

What goes over it is a question, and by what LanceDB knows the indexes to look in; what comes back are ids and scores. Texts, and who may see them,
are PostgreSQL's. The kernel lets nobody connect but the user whose folder it is.
"""

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from federation.settings import Settings

logger = logging.getLogger(__name__)

# Who asks does without it after so long; a node that loads its model takes longer, and is asked through the queue.
WITHIN_S = 5.0
# A line that is longer is no question of ours.
_LONGEST = 2**20


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, in which indexes, and what limits the places."""

    query: str
    depth: int
    collections: Sequence[str]
    path: str | None = None
    language: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best chunks, each with its score and the rankers that found it; `deeper` says whether there may be more."""

    node: str
    chunks: Sequence[tuple[str, float, Sequence[str]]]
    deeper: bool


def socket_of(settings: Settings) -> Path:
    """Return where the worker that serves the folder of vectors of these settings listens, if one does."""
    return (settings.vectors_dir or settings.data_dir / "vectors") / "ranker"


async def ask(path: Path, question: Question) -> Ranked | None:
    """Return what the worker behind a socket ranks; None if none is there, or if it cannot or does not answer in time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST)
            try:
                writer.write(json.dumps(asdict(question)).encode() + b"\n")
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        logger.info("ranker.unanswered reason=%r", error)
        return None
    return Ranked(answer["node"], [tuple(chunk) for chunk in answer["chunks"]], answer["deeper"]) if "chunks" in answer else None


class Listener:
    """Answers questions in threads of its own, each connection one."""

    def __init__(self, path: Path, answer: Callable[[Question], Ranked], *, threads: int) -> None:
        self._path, self._answer, self._threads = path, answer, threads
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Listen in the place of whoever listened there before. Raises OSError, as for a folder whose name is too long for a socket."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            made.unlink()
        self._socket.bind(str(made))
        made.chmod(0o600)
        self._socket.listen(128)
        made.replace(self._path)
        for number in range(self._threads):
            threading.Thread(target=self._run, name=f"ranker-{number}", daemon=True).start()

    def stop(self) -> None:
        """Listen no more; another that has taken the place is left alone."""
        with suppress(OSError):
            # Wakes the threads that wait for a connection.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                # One that says nothing must not keep a thread.
                connection.settimeout(WITHIN_S)
                connection.sendall(json.dumps(self._answered(connection)).encode() + b"\n")

    def _answered(self, connection: socket.socket) -> Mapping[str, Any]:
        try:
            with connection.makefile("rb") as lines:
                asked = Question(**json.loads(lines.readline(_LONGEST)))
            return asdict(self._answer(asked))
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - through the queue it is told to who asked, and a thread that ends answers nobody
            logger.info("ranker.failed reason=%r", error)
            return {"error": repr(error)}
