"""What a node that was shut out has left in the queues of others goes from there, and nothing else does."""

import uuid
from typing import Any

import pytest

from federation.broker.envelope import pack
from federation.broker.frames import encode
from federation.broker.moving import waiting_messages
from federation.broker.opening import own_transport
from federation.delivery.purging import Purge, Purged
from federation.delivery.signer import Signer
from federation.services import nodes, signers
from federation.services.nodes import Announcement
from tests.integration.delivery.forging import JSON, Sent, put, signed, unsigned
from tests.integration.delivery.test_delivery import stomp
from tests.integration.local.stomp_clients import Client

World = Any
FLOOD = 5_000


@pytest.fixture
def node(world: World) -> str:
    """A node that is announced, and has no worker now."""
    # What other tests have left, by keys that are not known here.
    purge(world)
    name = world.node("quiet")
    world.trust_nodes(600.0)
    with world.transactions.begin(f"node:{name}") as session:
        nodes.announce(session, Announcement(name, "developer", (), (), (), (), (), 1, "here", 1, uuid.uuid4(), False))
    return str(name)


def signer(world: World, name: str) -> Signer:
    made = Signer(f"node:{name}", world.folder / name, world.service_url)
    made.register()
    return made


def frame(world: World, queue: str, sent: Sent) -> bytes:
    properties = {"delivery_info": {"exchange": "", "routing_key": queue}, "delivery_mode": 2, "priority": 0}
    message = {"headers": sent.headers, "properties": properties, "content-type": sent.content_type, "content-encoding": "utf-8", "body": sent.body}
    told, raw = pack(message, world.destination(queue), max_bytes=10**6)
    return encode("SEND", told, raw)


def waiting(world: World, queue: str) -> list[str]:
    with world.app.connection_for_write() as connection, waiting_messages(connection, queue, limit=10_000) as found:
        return sorted(str(message.headers["id"]) for message in found)


def purge(world: World, *shut_out: str, within_s: float = 240.0, told: list[int] | None = None) -> Purged:
    tell = (told if told is not None else []).append
    return Purge(world.app, world.transactions, actor="cli:tester", shut_out=shut_out, required=True, tell=tell).run(within_s=within_s)


@pytest.mark.timeout(600)
def test_five_thousand_messages_of_one_that_was_shut_out_go_and_those_of_others_stay(world: World, node: str) -> None:
    evil, fired = signer(world, "evil"), signer(world, "fired")
    asked = [str(world.record("tests.where", {}, node=node)) for _ in range(3)]
    # One that is ours was sent by the node.
    ours = world.record("tests.where", {}, node=node)
    with world.app.connection_for_write() as connection, waiting_messages(connection, node, limit=10) as found:
        next(message for message in found if message.headers["id"] == str(ours)).drop()
    put(world, signed(world, unsigned(world, task_id=str(ours)), signer=evil), node)
    others = signed(world, unsigned(world), signer=fired)
    put(world, others, node)
    with world.transactions.begin("cli:tester") as session:
        signers.revoke(session, "node:evil")
        signers.revoke(session, "node:fired")
    altered = signed(world, unsigned(world))
    made_up = [Sent({**altered.headers, "id": str(uuid.uuid4())}, altered.body), unsigned(world), Sent({}, b"{}")]
    flood = [signed(world, unsigned(world), signer=evil) for _ in range(FLOOD - len(made_up))] + made_up
    stomp(world, *(frame(world, node, sent) for sent in flood))
    world.until(lambda: world.size(world.destination(node)).waiting == FLOOD + 5, "all are there")

    assert purge(world, evil.key.public.identity, within_s=0.0) == Purged(0, 0, is_all=False)
    told: list[int] = []
    purged = purge(world, evil.key.public.identity, told=told)
    assert waiting(world, node) == sorted([*asked, others.headers["id"]])
    assert (purged.placed_anew, purged.is_all) == (1, True)
    # What a worker of another test held at the first look, and has let go since by ending, is counted too.
    assert purged.dropped >= FLOOD + 1
    assert told == sorted(told)
    assert len(told) > FLOOD // 200
    [(at, unsent)] = world.rows(
        "SELECT node, o.execution_id IS NOT NULL FROM executions e LEFT JOIN outbox o ON o.execution_id = e.id WHERE e.id = %s", ours
    )
    assert (at, unsent) == (None, True)
    assert world.publisher.sweep() == 1
    assert waiting(world, node) == sorted([*asked, str(ours), others.headers["id"]])


def test_what_is_not_signed_stays_where_it_may_run(world: World, node: str) -> None:
    sent = unsigned(world)
    world.publish_raw(node, sent.body, sent.headers, signed=False, **JSON)
    lenient = Purge(world.app, world.transactions, actor="cli:tester", shut_out=(), required=False, tell=lambda _: None)
    assert lenient.run(within_s=60.0) == Purged()
    assert waiting(world, node) == [sent.headers["id"]]


def test_a_wildcard_that_somebody_uses_hides_the_size_of_no_queue(world: World) -> None:
    within = f"sized.{uuid.uuid4().hex}"
    queues = [f"/queue/{within}.{number}" for number in range(20)]
    client = Client(world.broker, "admin")
    for queue in (*queues, *queues, f"/queue/{within}.*"):
        assert client.write(queue) == ""
    client.end()
    with world.app.connection_for_write() as connection, own_transport(connection) as transport:
        sizes = [transport.statistics().size(queue) for queue in queues]
        assert transport.statistics().size(f"/queue/{within}") is None
    assert [size and size.waiting for size in sizes] == [2] * len(queues)
