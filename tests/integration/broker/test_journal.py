"""What ActiveMQ has confirmed between two hard ends comes, with its acks not compacted; where they are, it is lost, which is why they are not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.statistics import QueueSize
from tests.conftest import ActiveMQServer

# Short files, and the index as it is between two checkpoints, which are 5 seconds apart.
RARELY = 'journalMaxFileLength="1mb" checkpointInterval="600000" cleanupInterval="600000"'
# As after hours: acks are compacted as soon as two looks, of five a second, have found no file to delete.
OFTEN = 'journalMaxFileLength="1mb" cleanupInterval="200" compactAcksAfterNoGC="2" compactAcksIgnoresStoreGrowth="true"'
TEN_LOOKS_S = 2.0
GIVEN, KEPT = 'journalMaxFileLength="16mb"', 'enableAckCompaction="false"'
# The type of the first record of a file that acks were compacted into, behind its batch's header and its own length.
COMPACTED, TYPE_AT = 16, 33


@pytest.fixture
def changed() -> dict[str, str]:
    return {GIVEN: RARELY}


@pytest.fixture
def broker(changed: dict[str, str], bus: Any, tmp_path: Path) -> Iterator[ActiveMQServer]:
    """An ActiveMQ that looks at its journal as `changed` says, from its next start on."""
    server = ActiveMQServer(tmp_path / "activemq", changed)
    server.start()
    bus.url = server.url
    yield server
    server.stop()


def send(bus: Any, connection: kombu.Connection, name: str, count: int, body: str = "") -> None:
    for _ in range(count):
        bus.publish(connection, kombu.Queue(name, routing_key=name), body)


def take(bus: Any, connection: kombu.Connection, name: str, count: int) -> list[Any]:
    inbox = bus.listen(connection, kombu.Queue(name, routing_key=name), no_ack=True)
    taken: list[Any] = inbox.wait(count)
    inbox.consumer.cancel()
    return taken


def files(folder: Path) -> list[Path]:
    return sorted((folder / "activemq" / "data" / "kahadb").glob("db-*.log"), key=lambda path: int(path.stem.removeprefix("db-")))


def is_compacted(path: Path) -> bool:
    return path.read_bytes()[TYPE_AT] == COMPACTED


def age(bus: Any, broker: ActiveMQServer, folder: Path) -> None:
    """Have acks in two files of the journal, and in the first a message that nobody takes, and start anew."""
    connection = bus.connect()
    send(bus, connection, "unread", 1)
    send(bus, connection, "work", 5)
    take(bus, connection, "work", 5)
    while len(files(folder)) < 2:
        send(bus, connection, "work", 20, 20_000 * "x")
        take(bus, connection, "work", 20)
    send(bus, connection, "work", 5)
    take(bus, connection, "work", 5)
    connection.release()
    broker.stop()
    broker.start()


def end_twice(bus: Any, broker: ActiveMQServer) -> None:
    """Kill the broker, have it confirm twelve messages before it looks at anything, kill it again, and start it."""
    broker.kill()
    broker.start()
    send(bus, bus.connect(), "work", 12)
    broker.kill()
    broker.start()


def test_what_is_confirmed_between_two_hard_ends_comes(broker: ActiveMQServer, bus: Any, changed: dict[str, str], tmp_path: Path) -> None:
    changed[GIVEN] = OFTEN
    age(bus, broker, tmp_path)
    time.sleep(TEN_LOOKS_S)
    assert not any(map(is_compacted, files(tmp_path)))
    changed[GIVEN] = RARELY
    end_twice(bus, broker)
    assert len(take(bus, bus.connect(), "work", 12)) == 12


def test_an_activemq_that_compacts_acks_loses_what_it_has_confirmed(
    broker: ActiveMQServer, bus: Any, changed: dict[str, str], tmp_path: Path
) -> None:
    # Should this fail one day, ActiveMQ is mended, and may compact again.
    changed |= {GIVEN: OFTEN, KEPT: 'enableAckCompaction="true"'}
    age(bus, broker, tmp_path)
    bus.wait_for(lambda: is_compacted(files(tmp_path)[-1]), "acks are compacted into the last file", else_tell=lambda: files(tmp_path))
    changed[GIVEN] = RARELY
    end_twice(bus, broker)
    assert bus.connect().default_channel.connection.statistics().size("/queue/work") in (None, QueueSize(0, 0, 0))
