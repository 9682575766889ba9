"""Workers and commands of tests, forked from processes that have imported what they run; each ends with these tests in any case."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from federation.cli import fleet
from federation.local.children import Process, die_with_parent
from federation.local.forkserver import Forked, ForkServer

# A project that is not ours has not what `federation.celery` connects to Celery's signals.
CELERY = (
    *("celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "celery.worker.consumer", "celery.concurrency.prefork"),
    *("celery.concurrency.thread", "federation.broker.transport", "federation.broker.commands", "federation.results.backend"),
)
COMMANDS = (
    *("agent", "task", "signer", "model", "audit", "status", "doctor", "claim", "hook", "consensus", "vote", "artifact", "events"),
    *("session", "send", "ask", "inbox", "state", "node"),
)
OURS = (*CELERY, *fleet.IMPORTS, *(f"federation.cli.{name}" for name in COMMANDS))

Started = Forked | subprocess.Popen[bytes]

_LOGS = tempfile.TemporaryDirectory(prefix="federation-tests-")


@cache
def _server(imports: Sequence[str]) -> ForkServer:
    return ForkServer(imports, Path(_LOGS.name) / f"forkserver-{len(imports)}.log")


def start(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdout: IO[Any],
    stdin: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
    group: bool = False,
    imported: Sequence[str] = OURS,
) -> Started:
    """Start what `python -m module` with these arguments would be, in a group of its own if asked."""
    if "LD_PRELOAD" in env:
        # What is loaded before Python is loaded into no fork.
        return _alone(module, *arguments, cwd=cwd, env=env, stdout=stdout, group=group)
    with Path(os.devnull).open("rb") as nothing:
        files = ((stdin or nothing).fileno(), stdout.fileno(), (stderr or stdout).fileno())
        return _server(imported).start([module, *arguments], cwd=cwd, environment=env, files=files, group=group)


def celery(*arguments: str, cwd: Path, env: Mapping[str, str], stdout: IO[Any]) -> Process:
    """Start `celery` for a project that is not ours, in a group of its own."""
    if "gevent" in arguments:
        # It replaces parts of Python before anything is imported.
        return _alone("celery", *arguments, cwd=cwd, env=env, stdout=stdout, group=True)
    return start("celery", *arguments, cwd=cwd, env=env, stdout=stdout, group=True, imported=CELERY)


def _alone(module: str, *arguments: str, cwd: Path, env: Mapping[str, str], stdout: IO[Any], group: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env,
        stdout=stdout,
        stderr=stdout,
        start_new_session=group,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, looked up beforehand
    )


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], text: str = "", timeout_s: float, imported: Sequence[str] = OURS
) -> "subprocess.CompletedProcess[str]":
    """Run one of our commands to its end, as `subprocess.run` would that captures all it writes. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(text)
        given.seek(0)
        process = start(module, *arguments, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err, imported=imported)
        try:
            process.wait(timeout_s)
        finally:
            process.kill()
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, process.returncode or 0, *written)
