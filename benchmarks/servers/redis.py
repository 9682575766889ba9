"""Redis from Debian's package, as a plain process on loopback that appends each command to a file; drops all when it ends."""

import importlib.util
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path

from benchmarks.running import Running
from benchmarks.servers import installed
from benchmarks.servers.peer import Peer, Start
from federation.errors import LocalServiceError
from federation.local.parts import Part
from federation.local.ports import LOOPBACK, free_port

NAME = "Redis + redis"
PACKAGE = "redis-server"


class Fsync(StrEnum):
    """When Redis syncs its file: before each answer, once a second, or never, for then it keeps none."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NO_FILE = "no"


_TOLD = {
    Fsync.ALWAYS: "messages and results in its append-only file, appendfsync always (no answer before the sync)",
    Fsync.EVERYSEC: "messages and results in its append-only file, appendfsync everysec (up to one second is lost in a power cut)",
    Fsync.NO_FILE: "all in memory, nothing on disk",
}


def starter(fsync: Fsync) -> Start:
    """Return what starts a Redis that syncs so."""
    return partial(_start, fsync=fsync)


@contextmanager
def _start(running: Running, *, fsync: Fsync) -> Iterator[Peer]:
    if importlib.util.find_spec("redis") is None:
        raise LocalServiceError("Python's package redis is not installed; run: uv pip install -e '.[bench]'")
    program = installed.find(PACKAGE, "usr/bin/redis-server")
    home, port = running.folder_of(f"redis-{fsync.value}"), free_port()
    libraries = installed.libraries(PACKAGE)
    environment: list[str | Path] = ["env", f"LD_LIBRARY_PATH={libraries}"] if libraries else []
    server = Part(
        name=home.name,
        command=[
            *environment,
            program,
            *("--bind", LOOPBACK, "--port", str(port), "--dir", str(home), "--appendonly", "no" if fsync is Fsync.NO_FILE else "yes"),
            *("--appendfsync", fsync.value, "--save", ""),
        ],
        is_ready=lambda: _answers(port),
        cwd=home,
    )
    with running.part(server) as pid:
        yield Peer(
            name=NAME,
            broker_url=f"redis://{LOOPBACK}:{port}/0",
            result_backend=f"redis://{LOOPBACK}:{port}/1",
            versions={"Redis": _version(port)},
            durability=_TOLD[fsync],
            broker_pid=pid,
            durable=fsync is not Fsync.NO_FILE,
        )


def _ask(port: int, question: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        connection.sendall(question + b"\r\n")
        return connection.recv(4096)


def _answers(port: int) -> bool:
    try:
        return _ask(port, b"PING") == b"+PONG\r\n"
    except OSError:
        return False


def _version(port: int) -> str:
    told = re.search(rb"redis_version:(\S+)", _ask(port, b"INFO server"))
    return told[1].decode() if told else "unknown"
