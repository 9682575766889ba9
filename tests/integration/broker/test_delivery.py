"""Deliveries on a real ActiveMQ: intact, settled, requeued, cancelled, never lost."""

import socket
import time
import uuid
from typing import Any

import kombu
import pytest


def test_properties_headers_and_body_arrive_intact(bus: Any, queue: kombu.Queue) -> None:
    body = {"text": "ä\0\n:\\", "list": [1, None]}
    bus.publish(bus.connect(), queue, body, headers={"x": {"y": [1]}}, correlation_id="c:1", reply_to="r", priority=7)
    (message,) = bus.listen(bus.connect(), queue).wait()
    assert message.decode() == body
    assert message.headers == {"x": {"y": [1]}}
    assert message.properties.items() >= {"correlation_id": "c:1", "reply_to": "r", "priority": 7}.items()
    assert message.delivery_info["redelivered"] is False
    message.ack()


@pytest.mark.parametrize("name", ["a,b?c*d>e", "sp ace", "a..b", "ü/ß@%41", "queue://x:y"])
def test_names_with_any_character_work(bus: Any, name: str) -> None:
    queue = kombu.Queue(f"{name}{uuid.uuid4().hex}")
    queue.routing_key = queue.name
    bus.publish(bus.connect(), queue, name)
    assert bus.listen(bus.connect(), queue, no_ack=True).wait()[0].decode() == name


def test_twenty_megabytes_with_nul_arrive(bus: Any, queue: kombu.Queue) -> None:
    body = bytes(range(256)) * 4096 * 20
    bus.publish(bus.connect(), queue, body, content_type="application/data", content_encoding="binary")
    (message,) = bus.listen(bus.connect(), queue).wait()
    assert message.body == body
    message.ack()


def test_a_prefix_maps_celery_queues_to_the_brokers_names(bus: Any, queue: kombu.Queue, plain: Any) -> None:
    bus.publish(bus.connect(queue_prefix="federation.node."), queue, [1, 2])
    frame = plain.receive(f"/queue/federation.node.{queue.name}")
    assert frame.body == b"[1, 2]"
    assert frame.headers["content-type"] == "application/json"


def test_a_message_of_a_plain_client_is_delivered_raw_and_hurts_nobody(bus: Any, queue: kombu.Queue, plain: Any) -> None:
    connection = bus.connect()
    inbox = bus.listen(connection, queue)
    plain.send(f"/queue/{queue.name}", b"not \xff json", task="looks.like.celery", persistent="true")
    plain.send(f"/queue/{queue.name}", b"{}", kombu="{broken")
    bus.publish(connection, queue, "good")
    first, second, third = inbox.wait(3)
    assert (first.body, first.headers["stomp"]["task"]) == (b"not \xff json", "looks.like.celery")
    assert (second.body, second.headers["stomp"]["kombu"]) == (b"{}", "{broken")
    assert third.decode() == "good"
    first.reject()
    second.ack()
    third.ack()
    assert plain.receive(f"/queue/DLQ.{queue.name}").body == b"not \xff json"


def test_requeued_it_comes_back_marked_as_redelivered(bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(), queue, "again", priority=3)
    inbox = bus.listen(bus.connect(), queue, prefetch_count=1)
    inbox.wait()[0].requeue()
    second = inbox.wait(2)[1]
    assert second.delivery_info["redelivered"] is True
    assert second.properties["priority"] == 3
    second.ack()
    assert inbox.stays_at(2)


def test_a_dropped_connection_gives_its_deliveries_to_a_peer(bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(), queue, "once more")
    first = bus.connect()
    bus.listen(first, queue).wait()
    first.transport.wire._sock.shutdown(socket.SHUT_RDWR)
    (message,) = bus.listen(bus.connect(), queue).wait()
    assert message.delivery_info["redelivered"] is True
    message.ack()


@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_cancelled_consumer_keeps_what_runs_and_gives_back_what_waits(bus: Any, queue: kombu.Queue, prefetch: int) -> None:
    sender, ours, peers = bus.connect(), bus.connect(), bus.connect()
    inbox = bus.listen(ours, queue, prefetch_count=prefetch)
    bus.publish(sender, queue, "running")
    running = inbox.wait()[0]
    inbox.consumer.cancel()
    bus.publish(sender, queue, "waiting")
    peer = bus.listen(peers, queue, prefetch_count=5)
    assert peer.wait()[0].decode() == "waiting"
    assert peer.stays_at(1), "the running message went to a peer"
    running.ack()
    assert peer.stays_at(1), "an acknowledged message went to a peer"
    assert inbox.stays_at(1), "a cancelled consumer was given more"
    peer.messages[0].ack()


def test_requeued_after_the_cancel_it_goes_to_a_peer(bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(), queue, "mine")
    inbox = bus.listen(bus.connect(), queue, prefetch_count=1)
    (message,) = inbox.wait()
    inbox.consumer.cancel()
    message.requeue()
    (again,) = bus.listen(bus.connect(), queue).wait()
    assert again.delivery_info["redelivered"] is True
    again.ack()


def test_consuming_again_on_the_same_channel_works_with_a_delivery_in_flight(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    inbox = bus.listen(connection, queue, prefetch_count=2)
    bus.publish(connection, queue, "first")
    (first,) = inbox.wait()
    inbox.consumer.cancel()
    inbox.consumer.consume()
    bus.publish(connection, queue, "second")
    second = inbox.wait(2)[1]
    assert second.decode() == "second"
    first.ack()
    second.ack()
    bus.publish(connection, queue, "third")
    inbox.wait(3)[2].ack()


def test_prefetch_follows_changes_both_ways(bus: Any, queue: kombu.Queue) -> None:
    sender, connection = bus.connect(), bus.connect()
    for number in range(10):
        bus.publish(sender, queue, number)
    inbox = bus.listen(connection, queue, prefetch_count=2)
    inbox.wait(2)
    assert inbox.stays_at(2)
    inbox.consumer.qos(prefetch_count=5)
    inbox.wait(5)
    assert inbox.stays_at(5)
    inbox.consumer.qos(prefetch_count=1)
    for message in inbox.messages[:4]:
        message.ack()
    assert inbox.stays_at(5), "more came than the prefetch count lets in"
    inbox.messages[4].ack()
    inbox.wait(6)
    assert inbox.stays_at(6)
    while len(inbox.messages) < 10:
        inbox.messages[-1].ack()
        inbox.wait(len(inbox.messages) + 1)
    inbox.messages[-1].ack()
    assert sorted(inbox.bodies) == list(range(10)), "a message came twice"


def test_acknowledging_multiple_settles_all_before(bus: Any, queue: kombu.Queue) -> None:
    sender, connection = bus.connect(), bus.connect()
    for number in range(3):
        bus.publish(sender, queue, number)
    inbox = bus.listen(connection, queue)
    inbox.wait(3)[1].ack(multiple=True)
    connection.release()
    (left,) = bus.listen(bus.connect(), queue).wait()
    assert left.decode() == 2
    left.ack()


def test_get_purge_and_size_agree(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    bound = queue(connection.default_channel)
    bound.declare()
    assert bound.get() is None
    for number in range(25):
        bus.publish(connection, queue, number)
    message = bound.get()
    assert message.decode() == 0
    assert bound.queue_declare(passive=True).message_count == 24
    message.requeue()
    assert bound.get(no_ack=True).decode() == 0
    assert bound.purge() == 24
    assert bound.queue_declare(passive=True).message_count == 0
    assert bound.get() is None


def test_a_passive_declaration_of_no_queue_says_so(bus: Any) -> None:
    connection = bus.connect()
    with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
        connection.default_channel.queue_declare(f"nobody.{uuid.uuid4().hex}", passive=True)


def test_expired_messages_do_not_arrive(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    bus.publish(connection, queue, "gone", expiration=0.05)
    bus.publish(connection, queue, "here")
    sent = time.monotonic()
    bus.wait_for(lambda: time.monotonic() - sent > 0.1, "the first expires")
    inbox = bus.listen(connection, queue, no_ack=True)
    inbox.wait()
    assert inbox.bodies == ["here"]


def test_a_durable_fanout_queue_gathers_before_its_consumer_comes(bus: Any) -> None:
    exchange = kombu.Exchange(f"news.{uuid.uuid4().hex}", type="fanout")
    queues = [kombu.Queue(f"{exchange.name}.{number}", exchange) for number in range(2)]
    kombu.Producer(bus.connect(), exchange).publish("extra", declare=list(queues))
    for queue in queues:
        assert bus.listen(bus.connect(), queue, no_ack=True).wait()[0].decode() == "extra"


def test_a_passing_fanout_queue_hears_what_another_process_sends(bus: Any) -> None:
    exchange = kombu.Exchange(f"news.{uuid.uuid4().hex}", type="fanout")
    listeners = [bus.listen(bus.connect(), kombu.Queue(uuid.uuid4().hex, exchange, auto_delete=True), no_ack=True) for _ in range(2)]
    kombu.Producer(bus.connect(), exchange).publish("extra")
    assert [listener.wait()[0].decode() for listener in listeners] == ["extra", "extra"]


def test_a_batch_is_stored_as_a_whole_or_not_at_all(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    producer = kombu.Producer(connection)
    assert producer.supports_batch_publish
    with pytest.raises(RuntimeError), producer.batch():
        producer.publish("never", routing_key=queue.name, declare=[queue])
        raise RuntimeError
    with producer.batch():
        for number in range(100):
            producer.publish(number, routing_key=queue.name)
        assert queue(connection.default_channel).queue_declare(passive=True).message_count == 0
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(100)
    assert inbox.bodies == list(range(100))


def test_a_batch_that_is_given_up_keeps_what_was_full_and_nothing_of_the_rest(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    producer = kombu.Producer(connection)
    # Large, so that parts of the open transaction are with the broker already.
    big = "x" * 10_000
    with pytest.raises(RuntimeError), producer.batch(max_size=10):
        for number in range(25):
            producer.publish(f"{number} {big}", routing_key=queue.name, declare=[queue])
        raise RuntimeError
    with producer.batch(max_size=10):
        producer.publish("after", routing_key=queue.name)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(21)
    assert inbox.stays_at(21)
    assert [body.split()[0] for body in inbox.bodies] == [*map(str, range(20)), "after"]


def test_a_message_over_the_limit_is_refused_and_the_connection_lives(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect(max_frame_size=1000)
    with pytest.raises(connection.channel_errors, match="limit is 1000"):
        bus.publish(connection, queue, "x" * 2000)
    bus.publish(connection, queue, "small")
    assert bus.listen(bus.connect(), queue, no_ack=True).wait()[0].decode() == "small"


def test_what_stomp_py_sends_we_read_and_the_reverse(bus: Any, queue: kombu.Queue, activemq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOMP_SKIP_HOSTNAME_SCAN", "1")
    import stomp

    received: list[Any] = []

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]
        def on_message(self, frame: Any) -> None:
            received.append(frame)

    witness = stomp.Connection12([(activemq.host, activemq.port)])
    witness.set_listener("", Listener())
    witness.connect(activemq.user, activemq.password, wait=True)
    witness.send(f"/queue/{queue.name}", "hello ä", content_type="text/plain")
    (message,) = bus.listen(bus.connect(), queue, no_ack=True).wait()
    assert message.body.decode() == "hello ä"
    witness.subscribe(f"/queue/{queue.name}.back", id="1", ack="auto")
    back = kombu.Queue(f"{queue.name}.back", routing_key=f"{queue.name}.back")
    bus.publish(bus.connect(), back, {"answer": 42})
    bus.wait_for(lambda: bool(received), "stomp.py receives")
    assert received[0].body == '{"answer": 42}'
    witness.disconnect()


def test_getting_one_by_one_marks_nothing_as_redelivered(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect(on_redelivered=lambda message: "nobody had it before")
    for number in range(40):
        bus.publish(connection, queue, number)
    bodies = []
    while (message := queue(connection.default_channel).get()) is not None:
        bodies.append(message.decode())
        message.ack()
    assert bodies == [*range(40)]


def test_lowering_the_prefetch_count_neither_marks_nor_reorders(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    for number in range(40):
        bus.publish(connection, queue, number)
    inbox = bus.listen(connection, queue, prefetch_count=8)
    seen: list[tuple[int, bool]] = []
    for count in (4, 8, 1, 6, 2):
        inbox.consumer.qos(prefetch_count=count)
        inbox.wait(1)
        while inbox.messages:
            message = inbox.messages.pop(0)
            seen.append((message.decode(), message.delivery_info["redelivered"]))
            message.ack()
    while len(seen) < 40:
        inbox.wait(1)
        message = inbox.messages.pop(0)
        seen.append((message.decode(), message.delivery_info["redelivered"]))
        message.ack()
    assert seen == [(number, False) for number in range(40)]


def test_a_connection_that_is_closed_gives_back_in_order(bus: Any, queue: kombu.Queue) -> None:
    first = bus.connect()
    for number in range(12):
        bus.publish(first, queue, number)
    bus.listen(first, queue, prefetch_count=4).wait(4)
    first.release()
    assert [message.decode() for message in bus.listen(bus.connect(), queue, no_ack=True).wait(12)] == [*range(12)]


def test_what_is_recovered_comes_back_in_order(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    for number in range(6):
        bus.publish(connection, queue, number)
    inbox = bus.listen(connection, queue, prefetch_count=10)
    inbox.wait(6)
    inbox.consumer.recover(requeue=True)
    assert [(message.decode(), message.delivery_info["redelivered"]) for message in inbox.wait(12)[6:]] == [(number, True) for number in range(6)]
