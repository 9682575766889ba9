"""The publisher against what it cannot send: no entry starves, breaks or stops another."""

import socket
import threading
import uuid
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from federation.delivery import known_nodes
from federation.delivery.app import make
from federation.delivery.known_nodes import FRESH_S, KnownNodes
from federation.delivery.publisher import CeleryPublisher
from federation.placement.requirements import Requirements
from federation.services import nodes
from federation.services.nodes import Announcement
from federation.settings import Settings
from federation.store import outbox
from federation.transaction import Transactions

World = Any


@pytest.fixture(autouse=True)
def _nodes_that_are_only_announced(world: World) -> None:
    # They give no signs of life, and must not turn stale while a loaded machine comes to what they are announced for.
    world.trust_nodes(1800)


def announce(world: World, name: str, *, concurrency: int = 1) -> uuid.UUID:
    incarnation = uuid.uuid4()
    with world.transactions.begin("cli:tester") as session:
        nodes.announce(session, Announcement(name, "lead", (), (), (), (), (), concurrency, "host", 1, incarnation, simulated=False))
    return incarnation


def door(world: World, broker_url: str, **options: Any) -> CeleryPublisher:
    given = Settings(data_dir=world.folder, broker_url=SecretStr(broker_url), database_service_url=SecretStr(world.service_url))
    app = make(lambda: given)
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **options}
    return CeleryPublisher(app, world.transactions.service, stale_s=3600)


def record(world: World, publisher: CeleryPublisher, kwargs: dict[str, Any]) -> uuid.UUID:
    with Transactions(world.transactions.engine, publisher, service=world.transactions.service).begin("tester") as session:
        return outbox.record(session, "tests.where", kwargs)


class Relay:
    """Stands between a publisher and ActiveMQ; once `cut` is set, it ends the connection in place of the next receipt."""

    def __init__(self, broker_url: str) -> None:
        url = urlsplit(broker_url)
        self._broker = (url.hostname, url.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lines = [self._server]
        self.url = broker_url.replace(f":{url.port}/", f":{self._server.getsockname()[1]}/")
        self.cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(self._broker)
                self._lines += [client, broker]
                threading.Thread(target=self._pump, args=(client, broker), daemon=True).start()
                threading.Thread(target=self._pump, args=(broker, client), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # the other direction has ended both
            while data := source.recv(65536):
                if data.startswith(b"RECEIPT") and self.cut.is_set():
                    self.cut.clear()
                    break
                target.sendall(data)
            for line in (source, target):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()


def as_stomp(activemq: Any) -> str:
    """The broker's URL for a user that may not write to the queues of nodes."""
    return f"activemq://stomp:{activemq.passwords['stomp']}@{activemq.host}:{activemq.port}/"


def test_entries_without_a_node_do_not_keep_others_from_being_sent(world: World) -> None:
    for _ in range(3):
        world.record("tests.where", tags=["nowhere"])
    late = world.record("tests.where")
    for _ in range(3):
        world.record("tests.where", tags=["nowhere"])
    assert world.state(late).state == "unplaced"
    announce(world, "late")
    sent = [world.publisher.sweep(limit=2) for _ in range(4)]
    assert sorted(sent) == [0, 0, 0, 1]
    assert (world.state(late).state, world.state(late).node) == ("queued", "late")
    assert world.rows("SELECT count(*), count(tried_at) FROM outbox") == [(6, 6)]


def test_broker_that_refuses_a_user_parks_the_execution_and_the_caller_notices_nothing(world: World, activemq: Any) -> None:
    announce(world, "closed")
    refused = door(world, as_stomp(activemq))
    identity = record(world, refused, {})
    view = world.state(identity)
    assert view.state == "unplaced"
    assert view.waiting_for.startswith("cannot be sent: tests.where is not taken")
    assert refused.sweep() == 0
    assert world.rows("SELECT attempts, tried_at IS NOT NULL FROM outbox") == [(2, True)]
    assert world.publisher.sweep() == 1
    assert world.state(identity).state == "queued"


def test_message_that_is_too_large_does_not_hold_up_the_next(world: World) -> None:
    announce(world, "narrow")
    narrow = door(world, world.broker_url, max_frame_size=10_000)
    with Transactions(world.transactions.engine, narrow, service=world.transactions.service).begin("tester") as session:
        large = outbox.record(session, "tests.where", {"text": "x" * 20_000})
        small = outbox.record(session, "tests.where", {})
    assert world.state(small).state == "queued"
    assert "10000" in world.state(large).waiting_for


def test_connections_that_the_broker_closed_do_not_put_a_message_off(world: World, activemq: Any) -> None:
    announce(world, "renewed")
    publisher = door(world, world.broker_url)
    assert world.state(record(world, publisher, {})).state == "queued"
    activemq.kill()
    activemq.start()
    late = record(world, publisher, {})
    assert (world.state(late).state, world.rows("SELECT attempts FROM outbox")) == ("queued", [])
    assert world.size(world.destination("renewed")).waiting == 2


def test_message_whose_receipt_is_lost_is_sent_again_under_its_id_with_one_effect(world: World) -> None:
    node = world.node("severed", concurrency=1)
    announce(world, node)
    go, started = world.folder / "go", world.folder / "started"
    go.touch()
    with closing(Relay(world.broker_url)) as relay:
        publisher = door(world, relay.url)
        with Transactions(world.transactions.engine, publisher, service=world.transactions.service).begin("tester") as session:
            outbox.record(session, "tests.where", {})
        relay.cut.set()
        with Transactions(world.transactions.engine, publisher, service=world.transactions.service).begin("tester") as session:
            identity = outbox.record(session, "tests.effect", {"started": str(started), "go": str(go)})
        assert not relay.cut.is_set()
    assert world.state(identity).state == "queued"
    world.worker(node)
    assert world.result(identity)["first"] is True
    world.until(lambda: world.state(identity).deliveries == 2, "its second message is delivered")
    assert world.rows("SELECT count(*) FROM execution_effects") == [(1,)]
    assert world.result(identity)["first"] is True


def test_beat_outlives_refusals(world: World, activemq: Any) -> None:
    announce(world, "deaf")
    identity = record(world, door(world, as_stomp(activemq)), {})
    # The node is announced and never ticks: on a slow machine it would turn stale before the second refusal.
    beat = world.celery("beat", name="beat", FEDERATION_BROKER_URL=as_stomp(activemq), FEDERATION_NODE_STALE_S="3600")
    # ActiveMQ tells a refusal with the message's receipt, or by ending the connection.
    told = ("outbox.refused", "outbox.deferred")
    world.until(lambda: sum(map(world.log("beat").count, told)) > 1 or beat.poll() is not None, "its sweeps are refused, again and again")
    assert beat.poll() is None, world.log("beat")
    permitted = door(world, world.broker_url)
    world.until(lambda: permitted.sweep() == 1, "a publisher that may sends it")
    assert world.state(identity).state == "queued"


def test_node_that_left_after_it_was_chosen_gets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_nodes, "FRESH_S", 3600.0)
    announce(world, "staying")
    leaver = announce(world, "leaving")
    assert {world.state(world.record("tests.where")).node for _ in range(4)} == {"staying", "leaving"}
    with world.transactions.begin("cli:tester") as session:
        assert nodes.leave(session, "leaving", leaver)
    assert {world.state(world.record("tests.where")).node for _ in range(4)} == {"staying"}
    with world.transactions.begin("cli:tester") as session:
        session.execute(text("UPDATE nodes SET last_seen_at = now() - interval '1 hour', updated_by = 'cli:tester'"))
    alone = world.record("tests.where")
    assert world.state(alone).state == "unplaced"


def test_nodes_are_not_counted_anew_for_each_execution_and_share_it_all_the_same(world: World) -> None:
    announce(world, "left")
    announce(world, "right")
    now = [0.0]
    known = KnownNodes(stale_s=60, clock=lambda: now[0])
    with world.transactions.begin("cli:tester") as session:
        assert known.look(session) is True
        assert known.look(session) is False
        chosen = [known.place(Requirements()) for _ in range(4)]
        assert sorted(map(str, chosen)) == ["left", "left", "right", "right"]
        assert known.look(session, afresh=True) is True
        now[0] += FRESH_S
        assert known.look(session) is True


def test_executions_of_one_affinity_go_to_one_node_and_others_are_shared(world: World) -> None:
    for name in ("left", "right"):
        announce(world, name, concurrency=4)
    with world.transactions.begin("tester") as session:
        warm = [outbox.record(session, "tests.where", {}, affinity="one prompt") for _ in range(2)]
    with world.transactions.begin("tester") as session:
        others = [outbox.record(session, "tests.where", {}) for _ in range(2)]
    [home] = {world.state(identity).node for identity in warm}
    assert {world.state(identity).node for identity in others} == {"left", "right"} - {home}
