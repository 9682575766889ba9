"""Python processes that need not import what they run: each is forked from one that has, with an environment, a folder and files of its own.

A suite starts some hundreds of workers and commands, and the imports of each would cost more than most of them do after that.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from federation.local.children import die_with_parent

ROOT = Path(__file__).parents[1]
LONGEST = 200_000
# What is imported before it is known what is asked; none of these starts a thread or reads a setting. A project that is not ours has not what
# `federation.celery` connects to Celery's signals.
CELERY = (
    *("celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "celery.worker.consumer", "celery.concurrency.prefork"),
    *("celery.concurrency.thread", "federation.broker.transport", "federation.results.backend"),
)
OURS = (
    *CELERY,
    *("federation.celery", "federation.delivery.beat", "federation.frontdoor", "psycopg_pool", "fastmcp", "uvicorn"),
    *(f"federation.tasks.{name}" for name in ("claims", "cop", "delegation", "inference", "retrieval", "summaries")),
    *(f"federation.cli.{name}" for name in ("agent", "task", "signer", "model", "audit", "serve", "status", "doctor", "claim", "hook")),
)


class Forked:
    """A process as `subprocess.Popen` shows it, for as much of that as tests need."""

    def __init__(self, pid: int, args: Sequence[str], line: "_Line") -> None:
        self.pid, self.args, self._line = pid, args, line
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        if self.returncode is None:
            self.returncode = self._line.ended(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._line.ended(self.pid, timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        # Until its end is read here, its pid is nobody else's.
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class _Line:
    """The socket to the process that forks; its ends of processes come as they happen, in between what it answers."""

    def __init__(self, imported: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
        command = [sys.executable, "-m", "tests.forks", str(theirs.fileno()), *imported]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        self._lock = threading.Lock()
        self._ended: dict[int, int] = {}

    def start(self, request: Mapping[str, Any], files: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(files))
            while True:
                told = self._read()
                if "born" in told:
                    return int(told["born"])

    def ended(self, pid: int, timeout_s: float | None) -> int | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                while pid not in self._ended and select.select([self._socket], [], [], 0)[0]:
                    self._read()
                if pid in self._ended:
                    return self._ended[pid]
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            # Another thread may read what this one waits for.
            select.select([self._socket], [], [], 0.05 if left is None else min(left, 0.05))

    def _read(self) -> dict[str, Any]:
        content = self._socket.recv(LONGEST)
        if not content:
            raise AssertionError(f"the process that forks has ended with {self._process.wait()}")
        told: dict[str, Any] = json.loads(content)
        if "ended" in told:
            self._ended[told["ended"]] = told["status"]
        return told


@cache
def _line(imported: Sequence[str]) -> _Line:
    return _Line(imported)


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
) -> Forked:
    """Start what `python -m module` with these arguments would be, in a group of its own if asked; it ends with these tests in any case."""
    request = {"argv": [module, *arguments], "cwd": str(cwd), "env": dict(env), "group": group}
    line = _line(imported)
    with Path(os.devnull).open("rb") as nothing:
        pid = line.start(request, [(stdin or nothing).fileno(), stdout.fileno(), (stderr or stdout).fileno()])
    return Forked(pid, [sys.executable, "-m", module, *arguments], line)


def celery(*arguments: str, cwd: Path, env: Mapping[str, str], stdout: IO[Any]) -> "Forked | subprocess.Popen[bytes]":
    """Start `celery` for a project that is not ours, in a group of its own."""
    if "gevent" in arguments:
        # It replaces parts of Python before anything is imported.
        command = [sys.executable, "-m", "celery", *arguments]
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdout=stdout,
            stderr=stdout,
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, looked up beforehand
        )
    return start("celery", *arguments, cwd=cwd, env=env, stdout=stdout, group=True, imported=CELERY)


def run(module: str, *arguments: str, cwd: Path, env: Mapping[str, str], text: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run one of our commands to its end, as `subprocess.run` would that captures all it writes. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(text)
        given.seek(0)
        process = start(module, *arguments, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err)
        try:
            process.wait(timeout_s)
        finally:
            process.kill()
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, process.returncode or 0, *written)


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and tell of each end; returns in a child what that is to be, and None when nobody asks any more."""
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        if woken in select.select([line, woken], [], [])[0]:
            os.read(woken, 1000)
            _tell_ends(line)
            continue
        content, files, *_ = socket.recv_fds(line, LONGEST, 3)
        if not content:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (woken, wakes):
                os.close(end)
            return {**json.loads(content), "files": files}
        for file in files:
            os.close(file)
        line.send(json.dumps({"born": pid}).encode())


def _tell_ends(line: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        line.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: Mapping[str, Any]) -> str:
    """Take on what a new process would have been given; return the module to run."""
    if request["group"]:
        os.setsid()
    for number, file in enumerate(request["files"]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # As the interpreter does it: the folder that one is in, then what is named.
    sys.path[0:1] = [request["cwd"], *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(request["argv"])
    return str(request["argv"][0])


def main() -> None:
    """Import, then fork for as long as somebody asks."""
    end_with_parent = die_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as line:
        # What runs in the terminal's foreground is interrupted with the tests; this ends with them in any case.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.disable()
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.freeze()
        gc.enable()
        request = _serve(line)
    if request is not None:
        end_with_parent()
        runpy.run_module(_become(request), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
