"""Workers of the project as real processes, each with its children in a process group of its own."""

import json
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from federation.local.children import signal_group
from tests import forks
from tests.faults.diary import Diary, Line, wait_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Worker:
    """One `celery worker`."""

    def __init__(self, number: int, folder: Path, diary: Diary, settings: Mapping[str, Any], *, pool: str, slots: int, quit_at: int) -> None:
        self.name = f"w{number}@faults"
        self._log = folder / f"worker{number}.log"
        words = ["-A", "project", "worker", "-n", self.name, "-P", pool, "-c", str(slots), "-l", "INFO", "--without-mingle", "--without-gossip"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAULTS_DIARY": str(diary.path), "FAULTS_SETTINGS": json.dumps(settings)}
        environment["FAULTS_QUIT_AT"] = str(quit_at)
        with self._log.open("wb") as output:
            self.process = forks.celery(*words, cwd=HERE, env=environment, stdout=output)

    @property
    def pid(self) -> int:
        """The pid of the main process, which is the number of the group too."""
        return self.process.pid

    def wrote(self, line: Line) -> bool:
        """Whether that line of the diary is its own: of its main process, or of a child of that."""
        return self.pid in (line.worker, line.child)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the main process is there."""
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it consumes, as it says itself."""
        return self.alive and f"{self.name} ready" in self.log

    def wait_until_ready(self) -> None:
        """Wait until it consumes; the error shows its log if it died."""
        wait_for(lambda: self.ready or not self.alive, lambda: f"{self.name} is ready\n{self.log}")
        assert self.alive, f"{self.name} ended with {self.process.poll()}\n{self.log}"

    def signal(self, signum: int) -> None:
        """Send a signal to the main process."""
        self.process.send_signal(signum)

    def freeze(self) -> None:
        """Stop all its processes where they are; their sockets stay open."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End all its processes at once."""
        signal_group(self.pid, signal.SIGKILL)
        self.process.wait()


class Fleet:
    """All workers of a test."""

    def __init__(self, folder: Path, diary: Diary, broker_url: str, prefix: str) -> None:
        self._folder, self._diary, self._prefix = folder, diary, prefix
        self._settings = {"broker_url": broker_url}
        self.workers: list[Worker] = []

    def start(
        self, *, pool: str = "prefork", slots: int = 2, wait: bool = True, heartbeat_s: float = 10, quit_at: int = 0, **settings: Any
    ) -> Worker:
        """Start another worker, with these settings of Celery beside those of all; cut for silence after two to three heart-beats.

        With `quit_at` it asks itself to end cold, see the project.
        """
        options = {"queue_prefix": self._prefix, "heartbeat": heartbeat_s, **settings.pop("options", {})}
        given = {**self._settings, **settings, "broker_transport_options": options}
        worker = Worker(len(self.workers), self._folder, self._diary, given, pool=pool, slots=slots, quit_at=quit_at)
        self.workers.append(worker)
        if wait:
            worker.wait_until_ready()
        return worker

    @property
    def ready(self) -> list[Worker]:
        """Those that consume."""
        return [worker for worker in self.workers if worker.ready]

    def any_ready(self, dice: random.Random) -> Worker:
        """Choose one that consumes; wait until there is one."""
        wait_for(lambda: self.ready, "a worker is ready")
        return dice.choice(self.ready)

    def kill(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.kill()
