"""Who of the broker's users may read and write what: a table, asked by a plain STOMP client; what is not in it is refused."""

import itertools
import os
import queue
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import RequestRefused
from federation.local.activemq import ADMIN, DOOR, OBSERVER, OPERATOR, PEER, RELAY, USERS, WORKER

WITHIN_S = 8
TAG = uuid.uuid4().hex[:8]
NOBODY: tuple[str, ...] = ()
# Destination: who reads it, who writes it; the administrator does both everywhere.
RIGHTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    f"/queue/federation.node.{TAG}": ((WORKER, RELAY, OPERATOR), (WORKER, DOOR, RELAY, OPERATOR)),
    f"/queue/DLQ.federation.node.{TAG}": ((OPERATOR,), (WORKER, OPERATOR)),
    f"/queue/federation.{TAG}": ((PEER, OPERATOR), (PEER, OPERATOR)),
    f"/queue/DLQ.federation.{TAG}": ((OPERATOR,), (OPERATOR,)),
    f"/topic/federation.{TAG}": ((PEER,), (PEER,)),
    "/topic/celery.pidbox": ((WORKER,), (OPERATOR,)),
    f"/queue/{TAG}.reply.celery.pidbox": ((OPERATOR,), (WORKER,)),
    "/topic/celery.questions.pidbox": ((WORKER,), (WORKER, DOOR, RELAY, OBSERVER, OPERATOR)),
    f"/queue/{TAG}.reply.celery.questions.pidbox": ((WORKER, OBSERVER, OPERATOR), (WORKER,)),
    "/topic/celeryev.worker.heartbeat": ((WORKER, OBSERVER, OPERATOR), (WORKER,)),
    "/topic/celeryev.task.succeeded": ((OBSERVER, OPERATOR), (WORKER,)),
    "/topic/celeryev.task.sent": ((OBSERVER, OPERATOR), (WORKER, DOOR, RELAY, OPERATOR)),
    "/topic/federation.events.message.sent": ((OBSERVER, OPERATOR), (RELAY,)),
    f"/queue/ActiveMQ.Statistics.Destination.{TAG}": (NOBODY, (RELAY, OBSERVER, OPERATOR)),
    "/topic/ActiveMQ.Scheduler.Management": (NOBODY, (OPERATOR,)),
    f"/queue/{TAG}": (NOBODY, NOBODY),
    f"/topic/{TAG}": (NOBODY, NOBODY),
    f"/topic/VirtualTopic.{TAG}": (NOBODY, NOBODY),
}
# What has wildcards or is a list, and who is let into what of it.
# Names of their own: to ActiveMQ a list that was read is a queue, in whose way who reads one of its members then is.
LISTS: Mapping[str, tuple[str, ...]] = {
    f"/queue/federation.l-{TAG},federation.node.l-{TAG}": (OPERATOR,),
    f"/topic/federation.l-{TAG},celery.l-{TAG}.pidbox": NOBODY,
}
WIDE_QUEUES = ("/queue/>", "/queue/federation.>", "/queue/*.*", "/queue/federation.node.>")
WIDE_TOPICS = ("/topic/>", "/topic/federation.>", "/topic/*.*", "/topic/celery.>")


class Client:
    """A plain STOMP client that is told after each request whether the broker took it, and how not."""

    def __init__(self, server: Any, user: str) -> None:
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
        self.connection.connect(user, server.passwords[user], wait=True)

    def end(self) -> None:
        """Part, if that is not done."""
        if self.connection.is_connected():
            self.connection.disconnect()

    def write(self, destination: str) -> str:
        """Return why the broker does not take a message to there, nothing where it does."""
        self.connection.send(destination, "words", headers={"receipt": "1", "expires": str(int(time.time() * 1000) + 60_000)})
        return self._told.get(timeout=WITHIN_S)

    def read(self, destination: str) -> str:
        """Return the same of a subscription."""
        self.connection.subscribe(destination, id="1", ack="client-individual", headers={"receipt": "1"})
        return self._told.get(timeout=WITHIN_S)


@pytest.fixture
def clients(activemq: Any) -> Iterator[Any]:
    """Opens connections of a user."""
    opened: list[Client] = []

    def connect(user: str) -> Client:
        opened.append(Client(activemq, user))
        return opened[-1]

    yield connect
    for client in opened:
        client.end()


@pytest.fixture
def asked(clients: Any) -> Any:
    """Asks the broker, each time over a connection of its own, because a refusal ends it."""

    def ask(user: str, verb: str, destination: str) -> str:
        client = clients(user)
        answer = str(getattr(client, verb)(destination))
        client.end()
        return answer

    return ask


@pytest.mark.parametrize("user", USERS)
def test_each_user_may_do_what_its_part_needs_and_nothing_else(asked: Any, user: str) -> None:
    found = {(verb, name): asked(user, verb, name) for name in RIGHTS for verb in ("read", "write")}
    found |= {("read", name): asked(user, "read", name) for name in LISTS}
    may = {("read", name) for name, (readers, _) in RIGHTS.items() if user in (*readers, ADMIN)}
    may |= {("write", name) for name, (_, writers) in RIGHTS.items() if user in (*writers, ADMIN)}
    may |= {("read", name) for name, readers in LISTS.items() if user in (*readers, ADMIN)}
    assert {what: found[what] for what in may if found[what]} == {}, "it may not do what it must"
    assert {what for what, reason in found.items() if not reason} == may
    assert all(f"User {user} is not authorized to" in reason for reason in found.values() if reason)


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, OBSERVER])
def test_a_wildcard_leads_into_no_queue_that_its_user_may_not_read(activemq: Any, clients: Any, user: str) -> None:
    queues = [name for name in RIGHTS if name.startswith("/queue/") and "Statistics" not in name]
    # Queues that are there before the subscription, and such that are made after it. Names of their own for each pattern: ActiveMQ counts a consumer
    # that it has not let in as one less, when it goes.
    for early, pattern in itertools.product((True, False), WIDE_QUEUES):
        mine = {name: name.replace(TAG, uuid.uuid4().hex[:8]) for name in queues}
        admin, taker = clients(ADMIN), clients(user)
        for name in mine.values() if early else ():
            admin.write(name)
        taker.read(pattern)
        for name in mine.values() if not early else ():
            admin.write(name)
        with kombu.Connection(activemq.url) as connection:
            statistics = connection.default_channel.connection.statistics()
            entered = {name for name, real in mine.items() if (size := statistics.size(real)) is not None and size.subscriptions > 0}
        got = {taker.arrived.get() for _ in range(taker.arrived.qsize())}
        got = {name for name, real in mine.items() if real in got}
        assert (got, entered - got) <= ({name for name in queues if user in RIGHTS[name][0]}, set()), (pattern, early, got, entered)
        taker.end()


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, OBSERVER])
def test_a_wildcard_leads_into_no_topic_that_its_user_may_not_read(clients: Any, user: str) -> None:
    topics = [name for name in RIGHTS if name.startswith("/topic/") and "Scheduler" not in name]
    admin = clients(ADMIN)
    for pattern in WIDE_TOPICS:
        listener, witness = clients(user), clients(ADMIN)
        listener.read(pattern)
        witness.read("/topic/>")
        for name in topics:
            admin.write(name)
            # ActiveMQ gives a topic's message to all of its listeners before it goes on.
            while witness.arrived.get(timeout=WITHIN_S) != name:
                pass
        heard = {listener.arrived.get() for _ in range(listener.arrived.qsize())}
        assert {name for name in heard if name in topics} <= {name for name in topics if user in RIGHTS[name][0]}, pattern
        listener.end()
        witness.end()


@pytest.mark.parametrize("user", [PEER, WORKER, DOOR, RELAY, OBSERVER])
def test_nothing_is_written_by_a_wildcard_to_where_its_user_may_not_write(clients: Any, user: str) -> None:
    topics = [name for name in RIGHTS if name.startswith("/topic/") and "Scheduler" not in name]
    admin, witness = clients(ADMIN), clients(ADMIN)
    witness.read("/topic/>")
    for name in topics:
        admin.write(name)
        while witness.arrived.get(timeout=WITHIN_S) != name:
            pass
    for pattern in (*WIDE_TOPICS, "/topic/celery.*", "/topic/celery.*.*", "/topic/federation.>", "/topic/celeryev.>"):
        writer = clients(user)
        writer.write(pattern)
        admin.write(f"/topic/{TAG}")
        reached = set(iter(lambda: witness.arrived.get(timeout=WITHIN_S), f"/topic/{TAG}"))
        assert {name for name in reached if name in topics} <= {name for name in topics if user in RIGHTS[name][1]}, pattern
        writer.end()


def test_a_refusal_says_who_may_not_do_what(activemq: Any) -> None:
    with kombu.Connection(activemq.url_of(DOOR)) as connection:
        exchange = kombu.Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
        with pytest.raises(RequestRefused, match=r"User door is not authorized to write to: topic://celery.pidbox"):
            connection.Producer(exchange=exchange).publish({"method": "shutdown"}, declare=[exchange])


def test_a_size_is_told_to_who_watches_and_no_size_to_who_works(activemq: Any) -> None:
    for user, may in ((OBSERVER, True), (WORKER, False)):
        with kombu.Connection(activemq.url_of(user)) as connection:
            assert (connection.default_channel.connection.statistics_or_none() is not None) is may
