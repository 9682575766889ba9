"""A broker that may be killed, workers that may be killed, and a book of what ran; each test has queues of its own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.broker.connection import StompConnection
from federation.broker.dialing import Address, dial
from federation.broker.errors import ConnectionLost
from federation.broker.statistics import Statistics
from tests.faults.diary import PATIENCE_S, Diary
from tests.faults.fleet import Fleet
from tests.faults.publishing import Client


@pytest.fixture
def prefix() -> str:
    """What the names of this test's queues begin with."""
    return f"faults.{uuid.uuid4().hex[:12]}."


@pytest.fixture
def broker(activemq: Any) -> Iterator[Any]:
    """The session's broker; whatever a test does to it, the next one finds it alive."""
    yield activemq
    activemq.thaw()
    activemq.start()


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture
def fleet(broker: Any, prefix: str, diary: Diary, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, diary, broker.url, prefix)
    yield fleet
    fleet.kill()


@pytest.fixture
def client(broker: Any, prefix: str) -> Iterator[Client]:
    client = Client(broker.url, {"queue_prefix": prefix, "confirm_timeout": 5})
    yield client
    client.close()


@pytest.fixture
def outlive(broker: Any) -> Callable[[int], None]:
    """Return when the broker has cut who agreed to heart-beats of so many seconds and sent none, twice: anybody as silent is cut as well."""

    def wait(heartbeat_s: int) -> None:
        for _ in range(2):
            address = Address(broker.host, broker.port, broker.user, broker.password)
            mute = StompConnection(address, dial(address, timeout_s=PATIENCE_S, heartbeat_s=heartbeat_s, max_frame_bytes=10**6))
            with pytest.raises(ConnectionLost, match="closed the connection"):
                mute.read(PATIENCE_S, lambda: False)

    return wait


@pytest.fixture
def size_of(broker: Any) -> Callable[[str], Any]:
    """Ask the broker itself for the size of a destination, over a connection of its own."""

    def ask(destination: str) -> Any:
        address = Address(broker.host, broker.port, broker.user, broker.password)
        wire = StompConnection(address, dial(address, timeout_s=PATIENCE_S, heartbeat_s=0, max_frame_bytes=10**6))
        try:
            return Statistics(wire).size(destination)
        finally:
            wire.close()

    return ask
