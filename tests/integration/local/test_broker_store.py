"""What agents are told and say over STOMP leaves room in ActiveMQ's store for the work of nodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.local.activemq import DOOR, RELAY, STOMP
from tests.integration.stomp.conftest import Raw


@pytest.fixture
def small(activemq: Any, server_dir: Path, tmp_path: Path) -> Iterator[Any]:
    """A broker with a store of 128 MB."""
    server = type(activemq)(server_dir / tmp_path.name, {'<storeUsage limit="4 gb"/>': '<storeUsage limit="128 mb"/>'})
    server.start()
    yield server
    server.stop()


def connected(broker: Any, user: str) -> Raw:
    client = Raw(broker.port).say("CONNECT", accept_version="1.2", login=user, passcode=broker.passwords[user])
    frame = client.frame()
    assert frame is not None
    assert frame.command == "CONNECTED"
    return client


def sent(client: Raw, destination: str) -> str:
    """Return why a message of 4 MB is refused, nothing where it is not."""
    frame: Any = client.say("SEND", b"x" * 4_000_000, destination=destination, persistent="true", receipt="r").frame()
    return "" if frame.command == "RECEIPT" else str(frame.headers["message"])


@pytest.mark.parametrize(("user", "destination"), [(RELAY, "/queue/federation.bob"), (STOMP, "/queue/federation.from.bob")])
def test_agents_fill_half_of_the_store_and_nodes_get_their_work_all_the_same(small: Any, user: str, destination: str) -> None:
    client = connected(small, user)
    taken = 0
    while not (refusal := sent(client, destination)):
        taken += 1
        assert taken < 40
    assert "Persistent store is Full" in refusal
    assert 10 <= taken <= 20
    assert sent(connected(small, DOOR), "/queue/federation.node.taichi") == ""
