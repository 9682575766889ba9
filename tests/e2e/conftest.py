"""A federation of its own data directory, driven by its command line as a user would."""

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from federation.local import children


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order of a module whose tests are steps of one story; other modules stay shuffled."""
    stories = [index for index, item in enumerate(items) if item.get_closest_marker("story")]
    for index, item in zip(stories, sorted((items[index] for index in stories), key=lambda item: item.reportinfo()[:2]), strict=True):
        items[index] = item


class Commands:
    """Runs `federation …` and `celery -A federation …` against one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.environment = os.environ | {"FEDERATION_DATA_DIR": str(data_dir), "COLUMNS": "200"}

    def _command(self, program: str, arguments: tuple[str, ...]) -> list[str]:
        module = {"federation": "federation.cli.main", "celery": "celery"}[program]
        return [sys.executable, "-m", module, *arguments]

    def run(self, program: str, *arguments: str, text: str = "", timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self._command(program, arguments)
        return subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose output is read as it comes."""
        command = self._command(program, arguments)
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True
        )

    def terminal(self, program: str, *arguments: str) -> "Terminal":
        """Start a command in a terminal of its own."""
        return Terminal(self._command(program, arguments), self.environment)

    def status(self) -> dict[str, Any]:
        """Return `federation status --json`."""
        return json.loads(self.run("federation", "status", "--json").stdout)

    def processes(self) -> list[psutil.Process]:
        """Return every process that was started with this data directory."""
        return [process for process, _ in self._running()]

    def runs(self, program: str) -> bool:
        """Whether one of our processes runs a program whose path has this in it."""
        return any(program in word for _, command in self._running() for word in command[:1])

    def _running(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                mine = process.environ().get("FEDERATION_DATA_DIR") == str(self.data_dir)
                mine = mine or any(str(self.data_dir) in word for word in [*command, process.cwd()])
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if mine and process.pid != os.getpid():
                yield process, command

    def all_gone(self) -> bool:
        """Wait until no process of ours is left; the kernel needs a moment for those whose parent was killed."""
        return children.wait_until(lambda: not self.processes(), 120)


class Terminal:
    """A command at a terminal, which a person may close."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            env=environment | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
        )
        os.close(theirs)
        self.said = ""

    def read_until(self, text: str) -> None:
        """Read what the command shows until this text is among it."""
        while text not in self.said:
            try:
                self.said += os.read(self._ours, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"{text!r} was not said: {self.said}")

    def close(self) -> int:
        """Close the terminal, and return the status with which the command ended."""
        os.close(self._ours)
        return self.process.wait(240)


@pytest.fixture(scope="module")
def federation() -> Iterator[Commands]:
    """Commands on a fresh data directory, which is purged at the end."""
    folder = Path(tempfile.mkdtemp(prefix="federation-e2e-"))
    folder.chmod(0o711)
    commands = Commands(folder / "data")
    yield commands
    commands.run("federation", "down", "--purge", "--yes")
    for process in commands.processes():
        process.send_signal(signal.SIGKILL)
    shutil.rmtree(folder)
