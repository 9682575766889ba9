"""Who of the broker's users may read and write what: a table, asked by a plain STOMP client; what is not in it is refused."""

import itertools
import os
import queue
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import RequestRefused
from federation.local.activemq import ADMIN, DOOR, OBSERVER, OPERATOR, PEER, RELAY, USERS, WORKER, user_of

WITHIN_S = 60
# Agents that speak STOMP.
ADA, BOB = user_of("ada"), user_of("bob")
TAG = uuid.uuid4().hex[:8]
NOBODY: tuple[str, ...] = ()
# Destination: who reads it, who writes it; the administrator does both everywhere.
RIGHTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    f"/queue/federation.node.{TAG}": ((WORKER, RELAY, OPERATOR), (WORKER, DOOR, RELAY, OPERATOR)),
    f"/queue/DLQ.federation.node.{TAG}": ((OPERATOR,), (WORKER, OPERATOR)),
    f"/queue/federation.peer.{TAG}": ((PEER, WORKER, RELAY, OPERATOR), (PEER, OPERATOR)),
    f"/queue/DLQ.federation.{TAG}": ((OPERATOR,), (OPERATOR,)),
    f"/topic/federation.peer.{TAG}": ((PEER, OBSERVER, OPERATOR), (PEER,)),
    f"/topic/federation.{TAG}": ((ADA, BOB, PEER, OBSERVER, OPERATOR), NOBODY),
    # What is fed to agents, and what they say: each its own.
    f"/queue/federation.{TAG}": ((WORKER, RELAY, OPERATOR), (RELAY, OPERATOR)),
    "/queue/federation.ada": ((ADA, WORKER, RELAY, OPERATOR), (RELAY, OPERATOR)),
    "/queue/federation.from.ada": ((WORKER, RELAY, OPERATOR), (ADA, OPERATOR)),
    "/topic/federation.broadcast": ((ADA, BOB, PEER, RELAY, OBSERVER, OPERATOR), (RELAY,)),
    "/topic/celery.pidbox": ((WORKER, OPERATOR), (OPERATOR,)),
    f"/queue/{TAG}.reply.celery.pidbox": ((OPERATOR,), (WORKER, OPERATOR)),
    "/topic/celery.questions.pidbox": ((WORKER, OPERATOR), (WORKER, DOOR, RELAY, OBSERVER, OPERATOR)),
    f"/queue/{TAG}.reply.celery.questions.pidbox": ((WORKER, OBSERVER, OPERATOR), (WORKER, OPERATOR)),
    "/topic/celeryev.worker.heartbeat": ((WORKER, OBSERVER, OPERATOR), (WORKER, OPERATOR)),
    "/topic/celeryev.task.succeeded": ((WORKER, OBSERVER, OPERATOR), (WORKER, OPERATOR)),
    "/topic/celeryev.task.sent": ((WORKER, DOOR, RELAY, OBSERVER, OPERATOR), (WORKER, DOOR, RELAY, OPERATOR)),
    "/topic/federation.events.message.sent": ((RELAY, OBSERVER, OPERATOR), (RELAY, OPERATOR)),
    f"/queue/ActiveMQ.Statistics.Destination.{TAG}": (NOBODY, (RELAY, OBSERVER, OPERATOR)),
    "/topic/ActiveMQ.Scheduler.Management": (NOBODY, (OPERATOR,)),
    "/topic/ActiveMQ.Scheduler.Guard": (NOBODY, (OPERATOR,)),
    # Names of one word, and below `nobody`, are nobody's to write: who may read them is not in the way of who reads all.
    f"/queue/{TAG}": ((WORKER, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/topic/{TAG}": ((WORKER, DOOR, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/queue/nobody.{TAG}": ((WORKER, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/topic/nobody.{TAG}": ((WORKER, DOOR, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/topic/VirtualTopic.{TAG}": (NOBODY, NOBODY),
}
# What has wildcards or is a list, and who is let into what of it.
# Names of their own: to ActiveMQ a list that was read is a queue, in whose way who reads one of its members then is.
LISTS: Mapping[str, tuple[str, ...]] = {
    f"/queue/federation.l-{TAG},federation.node.l-{TAG}": (WORKER, RELAY, OPERATOR),
    f"/topic/federation.l-{TAG},celery.l-{TAG}.pidbox": NOBODY,
}
LAST = f"/topic/last-{TAG}"
WIDE_QUEUES = ("/queue/>", "/queue/federation.>", "/queue/*.*", "/queue/federation.node.>")
WIDE_TOPICS = ("/topic/>", "/topic/federation.>", "/topic/*.*", "/topic/celery.>")


class Client:
    """A plain STOMP client that is told after each request whether the broker took it, and how not."""

    def __init__(self, server: Any, user: str, *, name: str | None = None) -> None:
        os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
        import stomp

        told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told, arrived = told, self.arrived

        class Listener(stomp.ConnectionListener):  # type: ignore[misc]
            def on_message(self, frame: Any) -> None:
                arrived.put(frame.headers["destination"])

            def on_receipt(self, frame: Any) -> None:
                told.put("")

            def on_error(self, frame: Any) -> None:
                told.put(frame.headers.get("message", "refused"))

        self.connection = stomp.Connection12([(server.host, server.port)], reconnect_attempts_max=1)
        self.connection.set_listener("", Listener())
        self.connection.connect(user, server.passwords[user], wait=True, headers={"client-id": name} if name else {})

    def end(self) -> None:
        """Part, if that is not done."""
        if self.connection.is_connected():
            self.connection.disconnect()

    def write(self, destination: str) -> str:
        """Return why the broker does not take a message to there, nothing where it does."""
        self.connection.send(destination, "words", headers={"receipt": "1", "expires": str(int(time.time() * 1000) + 60_000)})
        return self._told.get(timeout=WITHIN_S)

    def read(self, destination: str, **headers: str) -> str:
        """Return the same of a subscription."""
        self.connection.subscribe(destination, id=destination, ack="client-individual", headers={"receipt": "1", **headers})
        return self._told.get(timeout=WITHIN_S)


class Clients:
    """Opens connections of users."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._opened: list[Client] = []

    def __call__(self, user: str, *, name: str | None = None) -> Client:
        self._opened.append(Client(self.server, user, name=name))
        return self._opened[-1]

    def end(self) -> None:
        for client in self._opened:
            client.end()


@pytest.fixture(scope="module")
def own(activemq: Any, server_dir: Path) -> Iterator[Any]:
    """A broker whose destinations no other module has made: who read a wildcard there keeps others out for a minute."""
    server = type(activemq)(server_dir / "activemq-users")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clients(own: Any) -> Iterator[Clients]:
    made = Clients(own)
    yield made
    made.end()


@pytest.fixture(scope="module")
def another(activemq: Any, server_dir: Path) -> Iterator[Any]:
    """A broker for wildcards alone: those that were read once are in the way of others for a while."""
    server = type(activemq)(server_dir / "activemq-wildcards")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wild(another: Any) -> Iterator[Clients]:
    made = Clients(another)
    yield made
    made.end()


@pytest.fixture
def asked(clients: Clients) -> Any:
    """Asks the broker, each time over a connection of its own, because a refusal ends it."""

    def ask(user: str, verb: str, destination: str) -> str:
        client = clients(user)
        answer = str(getattr(client, verb)(destination))
        client.end()
        return answer

    return ask


@pytest.mark.parametrize("user", [*USERS, ADA, BOB])
def test_each_user_may_do_what_its_part_needs_and_nothing_else(asked: Any, user: str) -> None:
    # A peer's queue is the peer's to make; the others read it when it is there.
    made = (f"/queue/federation.peer.{TAG}", f"/queue/federation.{TAG}", "/queue/federation.ada", "/queue/federation.from.ada")
    for name in (*made, *(f"/{kind}/{name}{TAG}" for kind in ("queue", "topic") for name in ("", "nobody."))):
        asked(ADMIN, "write", name)
    found = {(verb, name): asked(user, verb, name) for name in RIGHTS for verb in ("read", "write")}
    found |= {("read", name): asked(user, "read", name) for name in LISTS}
    may = {("read", name) for name, (readers, _) in RIGHTS.items() if user in (*readers, ADMIN)}
    may |= {("write", name) for name, (_, writers) in RIGHTS.items() if user in (*writers, ADMIN)}
    may |= {("read", name) for name, readers in LISTS.items() if user in (*readers, ADMIN)}
    assert {what: found[what] for what in may if found[what]} == {}, "it may not do what it must"
    assert {what for what, reason in found.items() if not reason} == may
    assert all(f"User {user} is not authorized to" in reason for reason in found.values() if reason)


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, OBSERVER, BOB])
def test_a_wildcard_leads_into_no_queue_that_its_user_may_not_read(wild: Clients, user: str) -> None:
    queues = [name for name in RIGHTS if name.startswith("/queue/") and "Statistics" not in name]
    # Queues that are there before the subscription, and such that are made after it. Names of their own for each pattern: ActiveMQ counts a consumer
    # that it has not let in as one less, when it goes.
    for early, pattern in itertools.product((True, False), WIDE_QUEUES):
        mine = {name: name.replace(TAG, uuid.uuid4().hex[:8]) for name in queues}
        admin, taker = wild(ADMIN), wild(user)
        for name in mine.values() if early else ():
            admin.write(name)
        taker.read(pattern)
        for name in mine.values() if not early else ():
            admin.write(name)
        with kombu.Connection(wild.server.url) as connection:
            # Of all: asked for one by its name, ActiveMQ may answer with the queue that it has made of the pattern.
            sizes = connection.default_channel.connection.statistics().sizes()
        entered = {name for name, real in mine.items() if real in sizes and sizes[real].subscriptions > 0}
        got = {taker.arrived.get() for _ in range(taker.arrived.qsize())}
        entered |= {name for name, real in mine.items() if real in got}
        assert entered <= {name for name in queues if user in RIGHTS[name][0]}, (pattern, early)
        taker.end()


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, OBSERVER, BOB])
def test_a_wildcard_leads_into_no_topic_that_its_user_may_not_read(wild: Clients, user: str) -> None:
    topics = [name for name in RIGHTS if name.startswith("/topic/") and "Scheduler" not in name]
    admin = wild(ADMIN)
    for pattern in WIDE_TOPICS:
        listener, witness = wild(user), wild(ADMIN)
        listener.read(pattern)
        for name in topics:
            witness.read(name)
        for name in topics:
            admin.write(name)
            # ActiveMQ gives a topic's message to all of its listeners before it goes on.
            while witness.arrived.get(timeout=WITHIN_S) != name:
                pass
        heard = {listener.arrived.get() for _ in range(listener.arrived.qsize())}
        assert {name for name in heard if name in topics} <= {name for name in topics if user in RIGHTS[name][0]}, pattern
        listener.end()
        witness.end()


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, RELAY, OBSERVER, BOB])
def test_nothing_is_written_by_a_wildcard_to_where_its_user_may_not_write(wild: Clients, user: str) -> None:
    topics = [name for name in RIGHTS if name.startswith("/topic/") and "Scheduler" not in name]
    admin, witness = wild(ADMIN), wild(ADMIN)
    for name in (*topics, LAST):
        witness.read(name)
    for pattern in (*WIDE_TOPICS, "/topic/celery.*", "/topic/celery.*.*", "/topic/celeryev.>"):
        writer = wild(user)
        writer.write(pattern)
        admin.write(LAST)
        reached = set(iter(lambda: witness.arrived.get(timeout=WITHIN_S), LAST))
        assert {name for name in reached if name in topics} <= {name for name in topics if user in RIGHTS[name][1]}, pattern
        writer.end()


@pytest.fixture
def untouched(activemq: Any, server_dir: Path) -> Iterator[Clients]:
    """Clients of a broker where no part has read by a wildcard: an agent would be kept out by those that it may not read."""
    server = type(activemq)(server_dir / "activemq-untouched")
    server.start()
    made = Clients(server)
    yield made
    made.end()
    server.stop()


def test_who_reads_by_a_wildcard_keeps_nobody_out(untouched: Clients) -> None:
    wild = untouched
    assert not wild(PEER).read("/queue/federation.peer.>")
    for user in (PEER, BOB):
        below = ("/queue/federation.*", "/queue/federation.*.>", "/queue/federation.from.*")
        for pattern in (*below, "/queue/federation.>", "/queue/*.*.>", "/topic/federation.>"):
            # Whether it is let in or not.
            wild(user).read(pattern)
    readers = ((WORKER, "/queue/federation.node.{}"), (RELAY, "/queue/federation.node.{}"), (OBSERVER, "/topic/federation.events.{}"))
    for reader, name in (*readers, (ADA, "/queue/federation.ada"), (RELAY, "/queue/federation.from.ada"), (ADA, "/topic/federation.broadcast")):
        assert wild(reader).read(name.format(uuid.uuid4().hex)) == "", (reader, name)
    for writer, name in ((RELAY, "/queue/federation.ada"), (ADA, "/queue/federation.from.ada"), (RELAY, "/topic/federation.broadcast")):
        assert wild(writer).write(name) == "", (writer, name)


@pytest.mark.timeout(300)
def test_who_reads_everything_keeps_nobody_out_neither_then_nor_after_a_restart(untouched: Clients) -> None:
    """ActiveMQ keeps a name that was read for longer than who reads it, and than itself."""
    for kind, name in itertools.product(("queue", "topic"), (">", "*.>", "*.*.>")):
        administrator = untouched(ADMIN)
        assert administrator.read(f"/{kind}/{name}") == ""
        administrator.end()
    mine = {name.replace(TAG, uuid.uuid4().hex[:8]): readers for name, (readers, _) in RIGHTS.items() if readers}
    for restarted in (False, True):
        if restarted:
            untouched.server.stop()
            untouched.server.start()
        # Who reads what another makes finds it there.
        maker = untouched(ADMIN)
        for name in mine:
            assert maker.write(name) == ""
        maker.end()
        for name, readers in mine.items():
            for reader in readers:
                client = untouched(reader)
                assert client.read(name) == "", (reader, name, restarted)
                client.end()
        # Nor does it let anybody in where he may not read.
        assert "is not authorized to read from" in untouched(PEER).read(f"/queue/federation.node.{uuid.uuid4().hex}")


@pytest.mark.parametrize(("writer", "name"), [(RELAY, "/topic/federation.events.{}"), (WORKER, "/topic/celeryev.{}")])
def test_who_keeps_what_is_told_while_it_is_away_keeps_no_writer_out(wild: Clients, writer: str, name: str) -> None:
    """ActiveMQ adds such a subscription to a new topic in the name of who writes there first."""
    pattern, mine = name.format(">"), name.format(f"{uuid.uuid4().hex}.made")
    keeper = wild(OBSERVER, name=f"keeper-{TAG}")
    assert keeper.read(pattern, **{"activemq.subscriptionName": f"keeps-{TAG}"}) == ""
    keeper.end()
    assert wild(writer).write(mine) == ""
    keeper = wild(OBSERVER, name=f"keeper-{TAG}")
    assert keeper.read(pattern, **{"activemq.subscriptionName": f"keeps-{TAG}"}) == ""
    assert keeper.arrived.get(timeout=WITHIN_S) == mine


def test_a_refusal_says_who_may_not_do_what(activemq: Any) -> None:
    with kombu.Connection(activemq.url_of(DOOR)) as connection:
        exchange = kombu.Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
        with pytest.raises(RequestRefused, match=r"User door is not authorized to write to: topic://celery.pidbox"):
            connection.Producer(exchange=exchange).publish({"method": "shutdown"}, declare=[exchange])


def test_a_size_is_told_to_who_watches_and_no_size_to_who_works(activemq: Any) -> None:
    for user, may in ((OBSERVER, True), (WORKER, False)):
        with kombu.Connection(activemq.url_of(user)) as connection:
            assert (connection.default_channel.connection.statistics_or_none() is not None) is may
