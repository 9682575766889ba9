"""The Celery projects that the documentation shows, with real workers, on queues of each test's own."""

import importlib.util
import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kombu import pools

from tests import forks

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "docs" / "examples" / "broker"
PROJECTS = (EXAMPLES, Path(__file__).parent)


class Worker:
    """A worker and its children, in a process group of their own."""

    def __init__(self, project: str, log: Path, folder: Path, *arguments: str, **environment: str) -> None:
        self.name = f"w{uuid.uuid4().hex[:6]}@here"
        self._log = log
        words = ["-A", project, "worker", "-n", self.name, "-l", "INFO", "--without-mingle", *arguments]
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *PROJECTS))), **environment}
        with log.open("wb") as output:
            self.process = forks.celery(*words, cwd=folder, env=surroundings, stdout=output)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return f"{self.name} ready" in self.log

    def received(self, task_id: str) -> list[datetime]:
        """When it got a task, once for each time."""
        lines = re.findall(rf"^\[(\S+ \S+): .*\[{task_id}\] received", self.log, re.M)
        return [datetime.strptime(line, "%Y-%m-%d %H:%M:%S,%f").astimezone() for line in lines]

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Project:
    """An example, or a project of the tests, as a module, and its workers."""

    def __init__(self, name: str, folder: Path, bus: Any) -> None:
        # Loaded anew for each test: Celery keeps pools of connections for the life of an app.
        (path,) = (found for folder in PROJECTS if (found := folder / f"{name}.py").exists())
        specification = importlib.util.spec_from_file_location(name, path)
        assert specification is not None
        assert specification.loader is not None
        self.module: Any = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.module)
        self.name, self.app = name, self.module.app
        self.queue = f"{name}.{uuid.uuid4().hex[:8]}"
        self.app.conf.task_default_queue = self.queue
        self.folder = EXAMPLES
        self.workers: list[Worker] = []
        self._logs, self._bus = folder, bus

    def start(
        self, *arguments: str, pool: str = "prefork", concurrency: int = 2, wait: bool = True, folder: Path = EXAMPLES, **environment: str
    ) -> Worker:
        """Start a worker in a folder, on the test's queue unless the arguments say `-Q`."""
        queues = () if "-Q" in arguments else ("-Q", self.queue)
        log = self._logs / f"worker{len(self.workers)}.log"
        worker = Worker(self.name, log, folder, "-P", pool, "-c", str(concurrency), *queues, *arguments, **environment)
        self.workers.append(worker)
        if wait:
            self._bus.wait_for(lambda: worker.ready, "the worker is ready")
        return worker

    def size(self, queue: str | None = None) -> Any:
        """The broker's own count of a queue, None before it exists."""
        if not self._bus.opened:
            self._bus.connect()
        return self._bus.opened[0].default_channel.connection.statistics().size(f"/queue/{queue or self.queue}")


@pytest.fixture
def project(activemq: Any, tmp_path: Path, bus: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Project]]:
    """Opens an example by its name."""
    monkeypatch.setenv("CELERY_BROKER_URL", activemq.url)
    opened: list[Project] = []

    def open_project(name: str) -> Project:
        opened.append(Project(name, tmp_path, bus))
        return opened[-1]

    yield open_project
    for one in opened:
        for worker in one.workers:
            worker.kill()
    activemq.start()
    channel = bus.connect().default_channel
    for one in opened:
        for name in one.app.amqp.queues:
            channel.queue_purge(name)
        pools.reset()
        one.app.close()
