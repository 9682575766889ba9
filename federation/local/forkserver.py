"""Python processes that need not import what they run: each is forked from one that has, with an environment, a folder and files of its own.

Imports are most of what our parts cost while they start. The fork server of `multiprocessing` calls functions; this one runs modules, as `-m` does.
"""

import atexit
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setproctitle import getproctitle, setproctitle

from federation.local.children import die_with_parent

_LONGEST = 4096


class Forked:
    """A process as `subprocess.Popen` shows it, for as much of that as our callers need."""

    def __init__(self, pid: int, args: Sequence[str], server: "_Line") -> None:
        self.pid, self.args, self._server = pid, args, server
        self.returncode: int | None = None
        # Nobody else gets the pid before it is asked here how this one ended.
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        return status

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and _is_readable(self._descriptor, timeout_s):
            self.returncode = self._server.status(self.pid)
            os.close(self._descriptor)
        return self.returncode


class ForkServer:
    """Starts modules of Python; `imports` are the modules that it has by then, none of which may start a thread or read a setting.

    Its processes end with it, and it ends with the thread that made it. One that has died is started anew for the next process. What it has to say
    itself, such as a module that cannot be imported, is appended to the log.
    """

    def __init__(self, imports: Sequence[str], log: Path) -> None:
        self._imports, self._log = imports, log
        self._line: _Line | None = None

    def prepare(self) -> None:
        """Begin to import, and do not wait for it."""
        if self._line is None or self._line.is_dead():
            self._line = _Line(self._imports, self._log)

    def is_ready(self) -> bool:
        """Whether it has imported all, or has died of it: `start` answers at once then."""
        return self._line is not None and (self._line.has_said_something() or self._line.is_dead())

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None,
        environment: Mapping[str, str],
        files: tuple[int, int, int],
        group: bool = True,
        death_signal: int = signal.SIGKILL,
    ) -> Forked:
        """Start what `python -m` with these arguments would be, in a session of its own if it is to have a group.

        `environment` is all of it; `files` are its standard input, output and error. Raises ConnectionError when the server has died.
        """
        self.prepare()
        assert self._line is not None
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd or Path.cwd()),
            "environment": dict(environment),
            "group": group,
            "death_signal": death_signal,
        }
        pid = self._line.start(request, files)
        return Forked(pid, [sys.executable, "-m", *arguments], self._line)

    def stop(self) -> None:
        """End it, and all that it has started."""
        if self._line is not None:
            self._line.close()
            self._line = None


class _Line:
    """The process that forks, and the socket to it: one request, one answer."""

    def __init__(self, imports: Sequence[str], log: Path) -> None:
        self._log = log
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "federation.local.forkserver", str(theirs.fileno()), *imports]
        # Not to a terminal: who is imported there must not take it for the terminal of what it becomes.
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                pass_fds=[theirs.fileno()],
                # `ps` shall show what it becomes in the place of its command line, and not in that of its environment.
                env=os.environ | {"SPT_NOENV": "1"},
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, looked up beforehand
            )
        self._lock = threading.Lock()
        self._has_imported = False

    def has_said_something(self) -> bool:
        return self._has_imported or _is_readable(self._socket.fileno(), 0)

    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def start(self, request: Mapping[str, Any], files: Sequence[int]) -> int:
        with self._lock:
            if not self._has_imported:
                self._has_imported = bool(self._answer())
            # In a file, because an environment may be larger than a message.
            with os.fdopen(os.memfd_create("request"), "w+") as file:
                json.dump(request, file)
                file.flush()
                socket.send_fds(self._socket, [json.dumps({"start": True}).encode()], [*files, file.fileno()])
            return int(self._answer()["pid"])

    def status(self, pid: int) -> int:
        """Return how a process ended that has ended; for one that ended with this server, that it was killed."""
        with self._lock:
            try:
                self._socket.send(json.dumps({"reap": pid}).encode())
                return int(self._answer()["status"])
            except OSError:
                return -signal.SIGKILL

    def close(self) -> None:
        with self._lock:
            self._process.kill()
            self._process.wait()
            self._socket.close()

    def _answer(self) -> Any:
        content = self._socket.recv(_LONGEST)
        if not content:
            raise ConnectionResetError(f"the process that forks has ended with {self._process.wait()}, see {self._log}")
        return json.loads(content)


def _is_readable(descriptor: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return in a child what that is to be, and None when nobody asks any more."""
    line.send(json.dumps({"imported": len(sys.modules)}).encode())
    while True:
        content, files, *_ = socket.recv_fds(line, _LONGEST, 4)
        if not content:
            return None
        asked = json.loads(content)
        if "reap" in asked:
            _, status = os.waitpid(asked["reap"], 0)
            line.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
            continue
        with os.fdopen(files.pop()) as written:
            written.seek(0)
            request = json.load(written)
        end_with_server = die_with_parent(request["death_signal"])
        pid = os.fork()
        if pid == 0:
            end_with_server()
            return {**request, "files": files}
        for file in files:
            os.close(file)
        line.send(json.dumps({"pid": pid}).encode())


def _become(request: Mapping[str, Any]) -> str:
    """Take on what a new process would have been given; return the module to run."""
    # As the interpreter tells who watches it of the command line that it was started with.
    sys.audit("federation.fork", request["arguments"])
    if request["group"]:
        os.setsid()
    for number, file in enumerate(request["files"]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    title = shlex.join([Path(sys.executable).name, "-m", *request["arguments"]])
    # A path need not be UTF-8, and a title must.
    setproctitle(title.encode(errors="replace").decode())
    # As the interpreter does it: the folder that one is in, then what is named.
    sys.path[:0] = [request["cwd"], *filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(request["arguments"])
    return str(request["arguments"][0])


class _QuickEnd:
    """Ends a fork without freeing what it has in common with its server: whoever frees an object writes to its page, which is copied for that."""

    def __init__(self) -> None:
        self._status: int | None = None

    def run(self, module: str) -> None:
        """Run a module as `-m` does, and note how it ends."""
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            self._status = 0
        except SystemExit as end:
            # What is no number is printed.
            self._status = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise

    def __call__(self) -> None:
        """End now; an error that nobody has caught ends as ever."""
        if self._status is None:
            return
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        os._exit(self._status & 0xFF)


def main() -> None:
    """Import, then fork for as long as somebody asks."""
    end = _QuickEnd()
    # The first that is registered is the last to be called, when threads have ended and all else is done that was to be done in the end.
    atexit.register(end)
    # It looks for the place of the title, which it does not find in an environment that has been changed.
    getproctitle()
    with socket.socket(fileno=int(sys.argv[1])) as line:
        gc.disable()
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.freeze()
        gc.enable()
        request = _serve(line)
    if request is not None:
        end.run(_become(request))


if __name__ == "__main__":
    main()
