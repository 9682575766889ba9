"""The Celery project that is measured, one for all peers: only what stands in the working directory differs."""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_postrun

import federation.broker  # noqa: F401  # registers activemq://
from benchmarks.workload_settings import MODULE, SAME_FOR_ALL

# Beside the settings: a byte for each no-op that has ended, a byte for each slot that is held, the file that lets go of them,
# a line for each task with an ETA, for each part of a chord's header, and for each body.
ENDED, HELD, LET_GO, LATE, PARTS, JOINED = Path("ended"), Path("held"), Path("let-go"), Path("late"), Path("parts"), Path("joined")

app = Celery("benchmarks", set_as_current=False)
# Not only the entry point says so: a checkout that is not installed anew is measured too.
app.loader.override_backends = {"pgnotify": "federation.results.backend:PostgresBackend"}
app.add_defaults(lambda: SAME_FOR_ALL)
app.config_from_object(MODULE)


@app.task
def noop() -> None:
    """Do nothing."""


@app.task
def hold() -> None:
    """Keep this slot of the worker busy until the client lets go, so that a backlog builds up at the broker."""
    _append(HELD)
    while not LET_GO.exists():
        time.sleep(0.005)


@task_postrun.connect(sender=noop)
def _count(**_: Any) -> None:
    # Celery has stored the result by now. A byte in a file tells the client, and costs all peers the same.
    _append(ENDED)


@app.task
def note_lateness(due: float) -> None:
    """Write down how many seconds after `due`, in seconds since 1970, this runs."""
    _append(LATE, f"{time.time() - due:.6f}\n".encode())


@app.task
def nap(seconds: float) -> float:
    """Take so long, and return when that was over, in seconds since 1970."""
    time.sleep(seconds)
    return time.time()


@app.task
def part() -> None:
    """Write down when this part of a chord's header ran, in seconds since 1970."""
    _append(PARTS, _now())


@app.task
def join(values: list[None]) -> None:
    """Write down when the body of a chord ran."""
    _append(JOINED, _now())


def _now() -> bytes:
    return f"{time.time():.6f}\n".encode()


def _append(path: Path, what: bytes = b".") -> None:
    os.write(_opened(path), what)


@cache
def _opened(path: Path) -> int:
    # First asked for after the fork: each process of a pool has its own.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
