"""What waits in a queue is taken to another one as it is, or dropped, or left; a killed broker or a consumer beside it loses nothing."""

import threading
from typing import Any

import kombu
import pytest

from federation.broker.moving import waiting_messages


@pytest.fixture
def other() -> kombu.Queue:
    import uuid

    name = f"test.{uuid.uuid4().hex}"
    return kombu.Queue(name, routing_key=name)


def send(connection: kombu.Connection, queue: kombu.Queue, *bodies: Any, **options: Any) -> None:
    producer = kombu.Producer(connection)
    for body in bodies:
        producer.publish(body, routing_key=queue.name, declare=[queue], **options)


def test_messages_move_as_they_are_and_speak_of_their_new_queue(bus: Any, queue: kombu.Queue, other: kombu.Queue) -> None:
    connection = bus.connect(queue_prefix="pre.")
    send(connection, queue, {"a": "ä"}, priority=7, correlation_id="c", headers={"id": "t1", "task": "sum", "long": "x" * 20_000})
    with waiting_messages(connection, queue.name, limit=10) as found:
        (message,) = found
        assert (message.headers["id"], message.redelivered) == ("t1", False)
        message.move(other.name)
    inbox = bus.listen(connection, other)
    (moved,) = inbox.wait()
    assert moved.decode() == {"a": "ä"}
    assert moved.headers == {"id": "t1", "task": "sum", "long": "x" * 20_000}
    assert (moved.properties["correlation_id"], moved.properties["priority"]) == ("c", 7)
    assert moved.delivery_info["routing_key"] == other.name
    assert moved.delivery_info["redelivered"] is False
    moved.ack()
    with waiting_messages(connection, queue.name, limit=10) as found:
        assert list(found) == []


def test_what_is_left_alone_stays_and_what_is_dropped_goes(bus: Any, queue: kombu.Queue, other: kombu.Queue) -> None:
    connection = bus.connect()
    send(connection, queue, *range(600))
    with waiting_messages(connection, queue.name, limit=1000) as found:
        for number, message in enumerate(found):
            if number % 3 == 0:
                message.move(other.name)
            elif number % 3 == 1:
                message.drop()
    left, moved = bus.listen(bus.connect(), queue), bus.listen(bus.connect(), other)
    assert [message.decode() for message in left.wait(200)] == list(range(2, 600, 3))
    assert [message.decode() for message in moved.wait(200)] == list(range(0, 600, 3))
    assert left.stays_at(200)
    assert moved.stays_at(200)


def test_what_was_delivered_before_is_marked_so_after_its_move(bus: Any, queue: kombu.Queue, other: kombu.Queue) -> None:
    connection = bus.connect()
    send(connection, queue, 1)
    held = bus.connect()
    inbox = bus.listen(held, queue)
    inbox.wait()
    held.transport.wire._sock.close()  # as a killed worker does
    statistics = connection.default_channel.connection.statistics()
    bus.wait_for(lambda: statistics.size(f"/queue/{queue.name}").waiting == 1, "the broker takes it back")
    with waiting_messages(connection, queue.name, limit=10) as found:
        for message in found:
            assert message.redelivered
            message.move(other.name)
    (moved,) = bus.listen(connection, other).wait()
    assert moved.delivery_info["redelivered"] is True
    moved.ack()


def test_two_movers_and_a_consumer_at_once_share_the_messages(bus: Any, queue: kombu.Queue, other: kombu.Queue) -> None:
    connection = bus.connect()
    send(connection, queue, *range(300))

    def move() -> None:
        with waiting_messages(bus.connect(), queue.name, limit=1000) as found:
            for message in found:
                message.move(other.name)

    movers = [threading.Thread(target=move) for _ in range(2)]
    inbox = bus.listen(bus.connect(), queue)
    inbox.consumer.qos(prefetch_count=5)
    for mover in movers:
        mover.start()
    inbox.wait(1)
    for mover in movers:
        mover.join()
    settled = 0

    def is_empty() -> bool:
        """Whether the broker has nothing left of the queue, not even on its way to the consumer, which settles what it gets."""
        nonlocal settled
        inbox.stays_at(300)
        for message in inbox.messages[settled:]:
            message.ack()
        settled = len(inbox.messages)
        size = connection.default_channel.connection.statistics().size(f"/queue/{queue.name}")
        return (size.waiting, size.in_flight) == (0, 0)

    bus.wait_for(is_empty, "all are taken or moved")
    moved = bus.listen(connection, other)
    arrived = [message.decode() for message in moved.wait(300 - len(inbox.messages))]
    assert moved.stays_at(300 - len(inbox.messages))
    assert sorted([*arrived, *inbox.bodies]) == list(range(300))


def test_a_queue_that_nobody_knows_has_nothing_to_move(bus: Any, queue: kombu.Queue) -> None:
    with waiting_messages(bus.connect(), queue.name, limit=10) as found:
        assert list(found) == []
