"""Who of the broker's users may read and write what: a table, asked by a plain STOMP client; what is not in it is refused."""

import itertools
import os
import queue
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import RequestRefused
from federation.broker.scheduled import list_scheduled
from federation.local.activemq import ADMIN, DOOR, OBSERVER, OPERATOR, PEER, RELAY, USERS, WORKER, user_of, user_of_node

WITHIN_S = 60
# Agents that speak STOMP.
ADA, BOB = user_of("ada"), user_of("bob")
# Nodes that are let in alone.
APART, ASIDE = user_of_node("apart"), user_of_node("aside")
NODES = (WORKER, APART, ASIDE)
TAG = uuid.uuid4().hex[:8]
NOBODY: tuple[str, ...] = ()
# Destination: who reads it, who writes it; the administrator does both everywhere.
RIGHTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    f"/queue/federation.node.{TAG}": ((WORKER, RELAY, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    "/queue/federation.node.apart": ((WORKER, APART, RELAY, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    f"/queue/DLQ.federation.node.{TAG}": ((OPERATOR,), (*NODES, OPERATOR)),
    "/queue/DLQ.federation.node.apart": ((OPERATOR,), (*NODES, OPERATOR)),
    f"/queue/federation.peer.{TAG}": ((PEER, WORKER, RELAY, OPERATOR), (PEER, OPERATOR)),
    f"/queue/DLQ.federation.{TAG}": ((OPERATOR,), (OPERATOR,)),
    f"/topic/federation.peer.{TAG}": ((PEER, OBSERVER, OPERATOR), (PEER,)),
    f"/topic/federation.{TAG}": ((ADA, BOB, PEER, OBSERVER, OPERATOR), NOBODY),
    # What is fed to agents, and what they say: each its own.
    f"/queue/federation.{TAG}": ((WORKER, RELAY, OPERATOR), (RELAY, OPERATOR)),
    "/queue/federation.ada": ((ADA, WORKER, RELAY, OPERATOR), (RELAY, OPERATOR)),
    "/queue/federation.from.ada": ((WORKER, RELAY, OPERATOR), (ADA, OPERATOR)),
    "/topic/federation.broadcast": ((ADA, BOB, PEER, RELAY, OBSERVER, OPERATOR), (RELAY,)),
    "/topic/celery.pidbox": ((*NODES, OPERATOR), (OPERATOR,)),
    f"/queue/{TAG}.reply.celery.pidbox": ((OPERATOR,), (*NODES, OPERATOR)),
    "/topic/celery.questions.pidbox": ((*NODES, OPERATOR), (*NODES, DOOR, RELAY, OBSERVER, OPERATOR)),
    f"/queue/{TAG}.reply.celery.questions.pidbox": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.worker.heartbeat": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.task.succeeded": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.task.sent": ((*NODES, OBSERVER, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    "/topic/federation.events.message.sent": ((OBSERVER, OPERATOR), (RELAY, OPERATOR)),
    f"/queue/ActiveMQ.Statistics.Destination.{TAG}": (NOBODY, (RELAY, OBSERVER, OPERATOR)),
    **{f"/topic/replies.federation.{user}": ((user,), (user,)) for user in (RELAY, OBSERVER, OPERATOR)},
    "/topic/ActiveMQ.Scheduler.Management": (NOBODY, (OPERATOR,)),
    "/topic/ActiveMQ.Scheduler.Guard": (NOBODY, (OPERATOR,)),
    # Names of one word, and below `nobody`, are nobody's to write: who may read them is not in the way of who reads all.
    f"/queue/{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/topic/{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/queue/nobody.{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
    f"/topic/nobody.{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, PEER, ADA, BOB), NOBODY),
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
        # Where it was sent to, and through which subscription it came.
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told, arrived, heard = told, self.arrived, self.heard

        class Listener(stomp.ConnectionListener):  # type: ignore[misc]
            def on_message(self, frame: Any) -> None:
                heard.put(frame.headers["subscription"])
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
        return self.told()

    def told(self) -> str:
        """Return the broker's next answer, as `write` has it."""
        return self._told.get(timeout=WITHIN_S)

    def read(self, destination: str, **headers: str) -> str:
        """Return the same of a subscription."""
        self.connection.subscribe(destination, id=destination, ack="client-individual", headers={"receipt": "1", **headers})
        return self.told()


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


@pytest.mark.parametrize("user", [*USERS, ADA, BOB, APART])
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


@pytest.mark.parametrize("user", [PEER, WORKER, APART, DOOR, OBSERVER, BOB])
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


@pytest.mark.parametrize("user", [PEER, WORKER, APART, DOOR, OBSERVER, BOB])
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


# Who may write to names of three words may send to a wildcard of three, which ActiveMQ hands to who reads such names, and so on; each frame says so.
ENDS = ("*.*", "*.*.*", "*.*.*.*", ">", "*.>", "federation.*", "federation.>", "federation.*.*", "celery.*", "celery.>", "celery.*.*", "celeryev.>")


@pytest.mark.parametrize("user", [PEER, WORKER, APART, DOOR, RELAY, OBSERVER, BOB])
def test_what_is_sent_to_a_wildcard_bears_its_name_and_reaches_no_agent_and_no_command(untouched: Clients, user: str) -> None:
    names = [name for name in RIGHTS if "Scheduler" not in name and "Statistics" not in name]
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
        if user in (PEER, OBSERVER, BOB):
            assert {name for name in through if name.count(".") == 1} == set(), pattern
        if user in (DOOR, WORKER, APART):
            assert {name for name in through if name.startswith("/topic/") and name.count(".") == 1} == set(), pattern
        writer.end()
        witness.end()


# To ActiveMQ a list that begins with a temporary place is one, and what it judges of a list it judges of all.
TEMPORARY = ("/temp-queue/mine", "/temp-topic/mine")
PLACES = {PEER: f"/queue/federation.peer.{TAG}", BOB: "/queue/federation.from.bob", OBSERVER: f"/topic/replies.federation.{OBSERVER}"}
PLACES |= {RELAY: "/queue/federation.bob", DOOR: "/topic/celery.questions.pidbox"}
PLACES |= dict.fromkeys((WORKER, APART), f"/queue/{TAG}.reply.celery.pidbox")


@pytest.mark.parametrize("user", [PEER, WORKER, APART, DOOR, RELAY, OBSERVER, BOB])
def test_what_is_sent_to_a_list_reaches_nothing_that_its_user_may_not_write_to(untouched: Clients, user: str) -> None:
    own = PLACES[user]
    forbidden = [name for name, (_, writers) in RIGHTS.items() if user not in writers and not name.startswith("/queue/ActiveMQ.")]
    witness, prepared = untouched(ADMIN), untouched(ADMIN)
    for name in (own, *forbidden):
        # There before it is named: of what is not, nobody may make it.
        witness.read(name)
        prepared.write(name)
    prepared.write(LAST)
    witness.read(LAST)
    prepared.write(LAST)
    list(iter(partial(witness.arrived.get, timeout=WITHIN_S), LAST))
    for name in forbidden:
        foreign = name.replace("/queue/", "queue://").replace("/topic/", "topic://")
        for aimed in (*((first, name) for first in (*TEMPORARY, own)), *((name, last) for last in (*TEMPORARY, own)), (own, foreign), (foreign,)):
            client = untouched(user)
            client.write(",".join(aimed))
            client.end()
    untouched(ADMIN).write(LAST)
    assert set(iter(partial(witness.arrived.get, timeout=WITHIN_S), LAST)) == set()


@pytest.mark.parametrize("user", [PEER, WORKER, APART, DOOR, RELAY, OBSERVER, BOB, OPERATOR])
def test_nobody_has_temporary_places_or_writes_to_those_of_others(clients: Clients, user: str) -> None:
    mine = clients(ADMIN)
    assert mine.read("/temp-queue/mine") == ""
    for name in (*TEMPORARY, f"/remote-temp-queue/ID:{TAG}-1:1:1:1"):
        assert f"User {user} is not authorized to" in clients(user).write(name)
        assert f"User {user} is not authorized to" in clients(user).read(name)
    assert mine.arrived.empty()


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
    for user in (PEER, BOB, ASIDE):
        below = ("/queue/federation.*", "/queue/federation.*.>", "/queue/federation.from.*")
        for pattern in (*below, "/queue/federation.>", "/queue/*.*.>", "/queue/federation.node.>", "/topic/federation.>"):
            # Whether it is let in or not.
            wild(user).read(pattern)
    readers = ((WORKER, "/queue/federation.node.{}"), (RELAY, "/queue/federation.node.{}"), (OBSERVER, "/topic/federation.events.{}"))
    for reader, name in (
        *readers,
        (APART, "/queue/federation.node.apart"),
        (ADA, "/queue/federation.ada"),
        (RELAY, "/queue/federation.from.ada"),
        (ADA, "/topic/federation.broadcast"),
    ):
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


@pytest.mark.parametrize("user", [BOB, PEER, OBSERVER, OPERATOR])
def test_nobody_has_kept_what_is_told_while_he_is_away(clients: Clients, user: str) -> None:
    """ActiveMQ adds such a subscription to a new topic in the name of who writes there first, whatever its owner may read."""
    for pattern in ("/topic/federation.>", "/topic/federation.broadcast"):
        keeper = clients(user, name=f"keeper-{uuid.uuid4().hex}")
        assert "Durable Consumers are not allowed" in keeper.read(pattern, **{"activemq.subscriptionName": "keeps"})


_ELSEWHERE = ("/queue/federation.from.{}", "/queue/federation.{}", "/queue/federation.node.{}", "/topic/celery.pidbox")
_BEHIND = [f"{first},{_ELSEWHERE[-1]}" for first in (*TEMPORARY, PLACES[OBSERVER])]


@pytest.mark.parametrize("where", [*_ELSEWHERE, *_BEHIND])
def test_sizes_are_told_to_no_place_that_who_asks_may_not_write_to(clients: Clients, where: str) -> None:
    place = where.format(f"a-{TAG}")
    witness, asker = clients(ADMIN), clients(OBSERVER)
    witness.read(place.rpartition(",")[2])
    asker.connection.send("/queue/ActiveMQ.Statistics.Broker", "", headers={"receipt": "1", "reply-to": place})
    assert "User observer is not authorized to" in asker.told()
    witness.read(LAST)
    clients(ADMIN).write(LAST)
    assert witness.arrived.get(timeout=WITHIN_S) == LAST


def test_a_refusal_says_who_may_not_do_what(activemq: Any) -> None:
    with kombu.Connection(activemq.url_of(DOOR)) as connection:
        exchange = kombu.Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
        with pytest.raises(RequestRefused, match=r"User door is not authorized to write to: topic://celery.pidbox"):
            connection.Producer(exchange=exchange).publish({"method": "shutdown"}, declare=[exchange])


def test_a_size_is_told_to_who_watches_and_no_size_to_who_works(activemq: Any) -> None:
    for user, may in ((OBSERVER, True), (WORKER, False)):
        with kombu.Connection(activemq.url_of(user)) as connection:
            assert (connection.default_channel.connection.statistics_or_none() is not None) is may


def test_each_connection_of_a_user_hears_the_answers_to_its_own_questions(activemq: Any) -> None:
    """They come to one topic for all connections of that user."""
    sizes = {f"federation.node.{uuid.uuid4().hex}": count for count in (1, 2, 3)}

    def ask(name: str) -> set[tuple[int, int]]:
        with kombu.Connection(activemq.url_of(OPERATOR)) as connection:
            producer = connection.Producer()
            for _ in range(sizes[name]):
                producer.publish("x", routing_key=name)
                producer.publish("later", routing_key=name, headers={"eta": "2099-01-01T00:00:00+00:00", "id": name, "task": name})
            statistics = connection.default_channel.connection.statistics()
            listed = {Counter(one.task_id for one in list_scheduled(connection))[name] for _ in range(5)}
            return {(found.waiting, *listed) for _ in range(20) if (found := statistics.size(f"/queue/{name}"))}

    with ThreadPoolExecutor(len(sizes)) as threads:
        assert list(threads.map(ask, sizes)) == [{(count, count)} for count in sizes.values()]
