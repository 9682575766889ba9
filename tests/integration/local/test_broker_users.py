"""Who of the broker's users may read and write what: a table, asked by a plain STOMP client; what is not in it is refused."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.errors import RequestRefused
from federation.local.activemq import ADMIN, DOOR, OBSERVER, OPERATOR, RELAY, STOMP, USERS, WORKER
from tests.integration.local.broker_rights import APART, LAST, LISTS, PLACES, RIGHTS, TAG, TEMPORARY
from tests.integration.local.stomp_clients import WITHIN_S, Clients


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


@pytest.fixture
def asked(clients: Clients) -> Any:
    """Asks the broker, each time over a connection of its own, because a refusal ends it."""

    def ask(user: str, verb: str, destination: str) -> str:
        client = clients(user)
        answer = str(getattr(client, verb)(destination))
        client.end()
        return answer

    return ask


@pytest.mark.parametrize("user", [*USERS, APART])
def test_each_user_may_do_what_its_part_needs_and_nothing_else(asked: Any, user: str) -> None:
    # Of what is not there the readers may not make it.
    made = (f"/queue/federation.{TAG}", f"/queue/federation.from.{TAG}")
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


@pytest.mark.parametrize("user", [WORKER, APART, DOOR, RELAY, OBSERVER, STOMP, OPERATOR])
def test_nobody_has_temporary_places_or_writes_to_those_of_others(clients: Clients, user: str) -> None:
    mine = clients(ADMIN)
    assert mine.read("/temp-queue/mine") == ""
    for name in (*TEMPORARY, f"/remote-temp-queue/ID:{TAG}-1:1:1:1"):
        assert f"User {user} is not authorized to" in clients(user).write(name)
        assert f"User {user} is not authorized to" in clients(user).read(name)
    assert mine.arrived.empty()


@pytest.mark.parametrize("user", [STOMP, OBSERVER, OPERATOR])
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

    def ask(name: str) -> set[int]:
        with kombu.Connection(activemq.url_of(OPERATOR)) as connection:
            producer = connection.Producer()
            for _ in range(sizes[name]):
                producer.publish("x", routing_key=name)
            statistics = connection.default_channel.connection.statistics()
            return {found.waiting for _ in range(20) if (found := statistics.size(f"/queue/{name}"))}

    with ThreadPoolExecutor(len(sizes)) as threads:
        assert list(threads.map(ask, sizes)) == [{count} for count in sizes.values()]


@pytest.mark.parametrize("user", [WORKER, APART, DOOR])
def test_nobody_can_have_the_broker_keep_or_repeat_a_message(clients: Clients, user: str) -> None:
    """ActiveMQ's scheduler, which asks for no right, was stopped for good by the first of these, also over a restart."""
    name = f"/queue/federation.node.{uuid.uuid4().hex}"
    cron, often = {"AMQ_SCHEDULED_CRON": "* * * * *", "AMQ_SCHEDULED_PERIOD": "1", "AMQ_SCHEDULED_REPEAT": "9"}, {"AMQ_SCHEDULED_REPEAT": "9"}
    reader = clients(ADMIN)
    assert reader.read(name) == ""
    for schedule in (cron, often, {"AMQ_SCHEDULED_DELAY": "3600000"}, {}):
        assert clients(user).write(name, **schedule) == ""
    assert [reader.arrived.get(timeout=WITHIN_S) for _ in range(4)] == [name] * 4
    with pytest.raises(Empty):
        reader.arrived.get(timeout=1.5)
