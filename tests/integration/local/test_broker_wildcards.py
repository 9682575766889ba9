"""Wildcards and lists lead nobody to where he may not read or write, and keep nobody out."""

import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.local.activemq import ADMIN, DOOR, OBSERVER, OPERATOR, RELAY, STOMP, WORKER
from tests.integration.local.broker_rights import APART, ASIDE, LAST, PLACES, RIGHTS, TAG, TEMPORARY
from tests.integration.local.stomp_clients import WITHIN_S, Clients

WIDE_QUEUES = ("/queue/>", "/queue/federation.>", "/queue/*.*", "/queue/federation.node.>")
WIDE_TOPICS = ("/topic/>", "/topic/federation.>", "/topic/*.*", "/topic/celery.>")


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
def untouched(activemq: Any, server_dir: Path) -> Iterator[Clients]:
    """Clients of a broker where no part has read by a wildcard: an agent would be kept out by those that it may not read."""
    server = type(activemq)(server_dir / "activemq-untouched")
    server.start()
    made = Clients(server)
    yield made
    made.end()
    server.stop()


@pytest.mark.parametrize("user", [WORKER, APART, DOOR, OBSERVER, STOMP])
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


@pytest.mark.parametrize("user", [WORKER, APART, DOOR, OBSERVER, STOMP])
def test_a_wildcard_leads_into_no_topic_that_its_user_may_not_read(wild: Clients, user: str) -> None:
    topics = [name for name in RIGHTS if name.startswith("/topic/")]
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


# Who may write to names of three words may send to a wildcard of three, which ActiveMQ hands to who reads such names, and so on; each frame says so.
ENDS = ("*.*", "*.*.*", "*.*.*.*", ">", "*.>", "federation.*", "federation.>", "federation.*.*", "celery.*", "celery.>", "celery.*.*", "celeryev.>")


@pytest.mark.parametrize("user", [WORKER, APART, DOOR, RELAY, OBSERVER, STOMP])
def test_what_is_sent_to_a_wildcard_bears_its_name_and_reaches_no_agent_and_no_command(untouched: Clients, user: str) -> None:
    names = [name for name in RIGHTS if "Statistics" not in name]
    for kind, end, early in itertools.product(("topic", "queue"), ENDS, (True, False)):
        pattern, writer = f"/{kind}/{end}", untouched(user)
        # ActiveMQ makes a destination of it at the first message, which readers that come later are given too.
        if not early and untouched(user).write(pattern):
            continue
        witness = untouched(ADMIN)
        for name in (*names, LAST):
            witness.read(name)
        refused = writer.write(pattern)
        untouched(ADMIN).write(LAST)
        reached = list(iter(partial(witness.arrived.get, timeout=WITHIN_S), LAST))
        through = {witness.heard.get() for _ in range(len(reached) + 1)} - {LAST}
        assert not (refused and pattern in reached)
        assert {name for name in reached if not ("*" in name or ">" in name)} == set(), pattern
        if user in (OBSERVER, STOMP):
            assert {name for name in through if name.count(".") == 1} == set(), pattern
        if user in (DOOR, WORKER, APART):
            assert {name for name in through if name.startswith("/topic/") and name.count(".") == 1} == set(), pattern
        writer.end()
        witness.end()


@pytest.mark.parametrize("user", [WORKER, APART, DOOR, RELAY, OBSERVER, STOMP])
def test_what_is_sent_to_a_list_reaches_nothing_that_its_user_may_not_write_to(untouched: Clients, user: str) -> None:
    own = PLACES[user]
    forbidden = [name for name, (_, writers) in RIGHTS.items() if user not in writers and not name.startswith("/queue/ActiveMQ.")]
    witness, prepared = untouched(ADMIN), untouched(ADMIN)
    for name in (own, *forbidden):
        witness.read(name)

    def arrived() -> Counter[str]:
        """Write to all places, and count what has come there when that has: each has an order of its own."""
        for name in (own, *forbidden):
            prepared.write(name)
        counted = Counter[str]()
        while not {own, *forbidden} <= counted.keys():
            counted[witness.arrived.get(timeout=WITHIN_S)] += 1
        return counted

    # There before it is named: of what is not, nobody may make it.
    arrived()
    for name in forbidden:
        foreign = name.replace("/queue/", "queue://").replace("/topic/", "topic://")
        for aimed in (*((first, name) for first in (*TEMPORARY, own)), *((name, last) for last in (*TEMPORARY, own)), (own, foreign), (foreign,)):
            client = untouched(user)
            client.write(",".join(aimed))
            client.end()
    counted = arrived()
    assert {name: counted[name] for name in forbidden} == dict.fromkeys(forbidden, 1)


def test_our_own_connections_take_nothing_that_was_sent_to_a_wildcard(untouched: Clients) -> None:
    """An operator may do everything that others may, so whatever it reaches nobody else reaches."""
    exchange = kombu.Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
    box = kombu.Queue(f"{TAG}.celery.pidbox", exchange, durable=False, auto_delete=True)
    got: list[Any] = []
    with kombu.Connection(untouched.server.url) as connection:
        for number, (queue, pattern) in enumerate(((box, "/topic/*.*"), (kombu.Queue("federation.node.mine"), "/queue/*.*.*")), 1):
            # The destination is there before who reads, and the reader before what is sent.
            assert untouched(OPERATOR).write(pattern) == ""
            with connection.Consumer(queue, callbacks=[lambda body, message: (got.append(body), message.ack())], accept=None):
                assert untouched(OPERATOR).write(pattern) == ""
                connection.Producer().publish("by name", exchange=queue.exchange or "", routing_key=queue.name)
                while len(got) < number:
                    connection.drain_events(timeout=WITHIN_S)
                connection.heartbeat_check()
                with pytest.raises(TimeoutError):
                    connection.drain_events(timeout=1)
        assert got == ["by name", "by name"]
        # Settled, so that no place in a worker is taken by it for ever.
        assert connection.default_channel.connection.statistics().sizes()["/queue/*.*.*"].waiting == 0


def test_who_reads_by_a_wildcard_keeps_nobody_out(untouched: Clients) -> None:
    wild = untouched
    below = ("/queue/federation.*", "/queue/federation.*.>", "/queue/federation.from.*")
    for pattern in (*below, "/queue/federation.>", "/queue/*.*.>", "/queue/federation.node.>", "/topic/federation.>"):
        # Whether it is let in or not. The agents' door reads by no wildcard.
        wild(ASIDE).read(pattern)
    readers = ((WORKER, "/queue/federation.node.{}"), (RELAY, "/queue/federation.node.{}"), (OBSERVER, "/topic/federation.events.{}"))
    for reader, name in (
        *readers,
        (APART, "/queue/federation.node.apart"),
        (STOMP, "/queue/federation.{}"),
        (RELAY, "/queue/federation.from.{}"),
        (STOMP, "/topic/federation.broadcast"),
    ):
        assert wild(reader).read(name.format(uuid.uuid4().hex)) == "", (reader, name)
    for writer, name in ((RELAY, "/queue/federation.ada"), (STOMP, "/queue/federation.from.ada"), (RELAY, "/topic/federation.broadcast")):
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
        assert "is not authorized to read from" in untouched(STOMP).read(f"/queue/federation.node.{uuid.uuid4().hex}")
