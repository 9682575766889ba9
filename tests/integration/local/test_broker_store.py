"""What agents are told and say over STOMP leaves room in ActiveMQ's store for the work of nodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from federation.local import jars
from federation.local.activemq import DOOR, RELAY, STOMP, USERS, ActiveMQ
from federation.local.ports import free_port
from federation.settings import settings
from tests.conftest import Server
from tests.integration.stomp.conftest import Raw


@dataclass(frozen=True)
class Small(ActiveMQ):
    """A broker with a store of 128 MB."""

    def configure(self) -> None:
        super().configure()
        configuration = self.root / "activemq.xml"
        configuration.write_text(configuration.read_text().replace('<storeUsage limit="4 gb"/>', '<storeUsage limit="128 mb"/>'))


@pytest.fixture
def small(server_dir: Path, tmp_path: Path) -> Iterator[Small]:
    distribution = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    made = Small(server_dir / tmp_path.name, free_port(), {user: user for user in USERS}, distribution)
    server = Server(made.part(), server_dir / f"{tmp_path.name}.log")
    server.start()
    yield made
    server.stop()


def connected(broker: Small, user: str) -> Raw:
    client = Raw(broker.port).say("CONNECT", accept_version="1.2", login=user, passcode=user)
    frame = client.frame()
    assert frame is not None
    assert frame.command == "CONNECTED"
    return client


def sent(client: Raw, destination: str, size: int) -> str:
    frame: Any = client.say("SEND", b"x" * size, destination=destination, persistent="true", receipt="r").frame()
    return "" if frame.command == "RECEIPT" else str(frame.headers["message"])


@pytest.mark.parametrize(("user", "destination"), [(RELAY, "/queue/federation.bob"), (STOMP, "/queue/federation.from.bob")])
def test_agents_fill_half_of_the_store_and_nodes_get_their_work_all_the_same(small: Small, user: str, destination: str) -> None:
    client = connected(small, user)
    taken = 0
    while not (refusal := sent(client, destination, 4_000_000)):
        taken += 1
        assert taken < 40
    assert "Persistent store is Full" in refusal
    assert 10 <= taken <= 20
    assert sent(connected(small, DOOR), "/queue/federation.node.taichi", 4_000_000) == ""
