"""Connections of kombu and plain STOMP ones to the session's ActiveMQ, and Celery workers; every queue of a test has a name of its own."""

import importlib.util
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import kombu
import pytest
from kombu import pools

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.connection import StompConnection
from federation.broker.dialing import Address, dial
from federation.broker.frames import Frame, encode
from tests import forks
from tests.conftest import ActiveMQServer

PATIENCE_S = 60.0
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class SchedulingServer(ActiveMQServer):
    """An ActiveMQ as a project of Celery has one, which keeps what has an ETA; that of the federation keeps nothing."""

    def __init__(self, root: Path, changed: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(root, {'schedulerSupport="false"': 'schedulerSupport="true"', **changed})


@pytest.fixture(scope="session")
def activemq(server_dir: Path) -> Iterator[SchedulingServer]:
    """A real ActiveMQ with a scheduler, for all tests of the transport."""
    server = SchedulingServer(server_dir / "scheduling" / "activemq")
    server.start()
    yield server
    server.stop()


def wait_for(happened: Callable[[], bool], what: str, *, else_tell: Callable[[], object] = lambda: "") -> None:
    """Look again and again until it happened, for at most PATIENCE_S seconds; the error says what `else_tell` adds."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:g} s\n{else_tell()}"
        time.sleep(0.02)


class PlainClient:
    """A STOMP client that knows nothing of kombu."""

    def __init__(self, server: Any) -> None:
        address = Address(server.host, server.port, server.user, server.password)
        self.wire = StompConnection(address, dial(address, timeout_s=PATIENCE_S, heartbeat_s=0, max_frame_bytes=10**8))

    def send(self, destination: str, body: bytes, **headers: str) -> None:
        receipt = self.wire.next_id()
        self.wire.request(encode("SEND", {"destination": destination, "receipt": receipt, **headers}, body), receipt, PATIENCE_S)

    def receive(self, destination: str) -> Frame:
        """Take one message from a destination; the client must not have received from it before."""
        self.wire.send(encode("SUBSCRIBE", {"id": self.wire.next_id(), "destination": destination, "ack": "auto", "activemq.prefetchSize": "1"}))
        assert self.wire.read(PATIENCE_S, lambda: bool(self.wire.inbox)), f"nothing came from {destination}"
        return self.wire.inbox.popleft()


@pytest.fixture
def plain(activemq: Any) -> Iterator[PlainClient]:
    client = PlainClient(activemq)
    yield client
    client.wire.close()


@pytest.fixture
def queue() -> kombu.Queue:
    name = f"test.{uuid.uuid4().hex}"
    return kombu.Queue(name, routing_key=name)


class Inbox:
    """A consumer that keeps what it gets."""

    def __init__(self, connection: kombu.Connection, queue: kombu.Queue, **options: Any) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.consumer = kombu.Consumer(connection, [queue], on_message=self.messages.append, **options)
        self.consumer.consume()

    @property
    def bodies(self) -> list[Any]:
        return [message.decode() for message in self.messages]

    def wait(self, count: int = 1) -> list[Any]:
        """Wait until so many messages came, and return them all."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} of {count} messages came"
            self._drain(0.2)
        return self.messages

    def stays_at(self, count: int) -> bool:
        """Whether no more than so many messages come, as far as half a second tells."""
        self._drain(0.5)
        return len(self.messages) == count

    def _drain(self, timeout_s: float) -> None:
        try:
            self.connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return


class Bus:
    """What a test does with kombu; test modules cannot import from here, so it comes as a fixture."""

    listen = Inbox
    wait_for = staticmethod(wait_for)

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[kombu.Connection] = []

    def connect(self, *, heartbeat: float = 0, **options: Any) -> kombu.Connection:
        """Open a connection with these transport options; it is closed after the test."""
        connection = kombu.Connection(self.url, transport_options=options, heartbeat=heartbeat)
        self.opened.append(connection)
        return connection

    @staticmethod
    def publish(connection: kombu.Connection, queue: kombu.Queue, body: Any, **options: Any) -> None:
        """Send to one queue by its name."""
        kombu.Producer(connection).publish(body, routing_key=queue.routing_key, declare=[queue], **options)


@pytest.fixture
def bus(activemq: Any) -> Iterator[Bus]:
    bus = Bus(activemq.url)
    yield bus
    for connection in bus.opened:
        connection.release()


class Worker:
    """A worker and its children, in a process group of their own."""

    def __init__(self, url: str, pool: str, log: Path, *, mingle: bool) -> None:
        self.name = f"w{uuid.uuid4().hex[:6]}@here"
        self.log = log
        words = ["-A", "sample_app", "-b", url, "worker", "-n", self.name, "-P", pool, "-c", "2", "-Q", "work,everywhere", "-E"]
        words += ["-l", "DEBUG"] if mingle else ["-l", "INFO", "--without-mingle"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as output:
            self.process = forks.celery(*words, cwd=HERE, env=environment, stdout=output)

    @property
    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return f"{self.name} ready" in self.log.read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def load_sample_app(url: str) -> Any:
    """The sample project's app on this broker, loaded anew: Celery keeps pools of connections for the life of an app."""
    specification = importlib.util.spec_from_file_location("sample_app", HERE / "sample_app.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.app.conf.broker_url = url
    module.app.tasks_of_sample = module
    return module.app


def close_sample_app(app: Any) -> None:
    with app.connection_for_write() as connection:
        app.control.purge(connection)
    pools.reset()
    app.close()


@pytest.fixture
def celery(activemq: Any) -> Iterator[Any]:
    """The sample project's app on the test's broker."""
    app = load_sample_app(activemq.url)
    yield app
    activemq.start()
    close_sample_app(app)


@dataclass(frozen=True)
class Standing:
    """An app and its one prefork worker, for all tests of a module; results are files, so that chords can be joined."""

    app: Any
    worker: Worker

    @property
    def tasks(self) -> Any:
        return self.app.tasks_of_sample

    @property
    def inspect(self) -> Any:
        return self.app.control.inspect([self.worker.name], timeout=PATIENCE_S, limit=1)

    def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Send a remote-control command to the worker and return its one answer."""
        reply = getattr(self.app.control, method)(*arguments, destination=[self.worker.name], reply=True, timeout=PATIENCE_S, limit=1, **named)
        return reply[0][self.worker.name]


@pytest.fixture(scope="module")
def standing(activemq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("standing")
    (folder / "results").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMPLE_RESULTS", f"file://{folder}/results")
        # Queues of its own: a worker of another test would keep its results elsewhere.
        patch.setenv("SAMPLE_PREFIX", "standing.node.")
        app = load_sample_app(activemq.url)
        worker = Worker(activemq.url, "prefork", folder / "worker.log", mingle=False)
    try:
        wait_for(lambda: worker.ready, "the worker is ready")
        yield Standing(app, worker)
        close_sample_app(app)
    finally:
        worker.kill()


@pytest.fixture
def start(activemq: Any, tmp_path: Path, bus: Any) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start_worker(pool: str = "prefork", *, url: str | None = None, wait: bool = True, mingle: bool = False) -> Worker:
        worker = Worker(url or activemq.url, pool, tmp_path / f"worker{len(workers)}.log", mingle=mingle)
        workers.append(worker)
        if wait:
            bus.wait_for(lambda: worker.ready, "the worker is ready")
        return worker

    yield start_worker
    for worker in workers:
        worker.kill()
