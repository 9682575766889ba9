"""Where a message goes whose exchange has no queue that this connection knows of: nowhere in silence."""

import uuid
from typing import Any

import kombu
import pytest
from amqp.exceptions import PreconditionFailed
from celery import Celery

from federation.broker.errors import Unroutable
from federation.broker.subscription import PREFETCH_OF_TOPICS


def bound(kind: str) -> kombu.Queue:
    name = f"test.{uuid.uuid4().hex}"
    return kombu.Queue(name, kombu.Exchange(f"{name}.x", type=kind), routing_key="video.a")


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_a_message_to_an_exchange_that_only_others_know_is_an_error(bus: Any, kind: str) -> None:
    queue = bound(kind)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    connection = bus.connect()
    with pytest.raises(Unroutable, match=r"video\.a"):
        kombu.Producer(connection).publish("lost", exchange=queue.exchange.name, routing_key="video.a")
    kombu.Producer(connection).publish("alive", exchange=queue.exchange, routing_key="video.a", declare=[queue])
    assert [message.decode() for message in inbox.wait()] == ["alive"]


def test_a_message_that_nobody_is_bound_for_is_dropped_with_a_word_or_refused_if_mandatory(bus: Any, caplog: pytest.LogCaptureFixture) -> None:
    queue = bound("topic")
    connection = bus.connect()
    producer = kombu.Producer(connection, exchange=queue.exchange)
    for _ in range(2):
        producer.publish("nobody wants it", routing_key="video.b")
    assert [record.levelname for record in caplog.records if "no queue is bound to exchange" in record.message] == ["WARNING"]
    with pytest.raises(Unroutable, match=r"video\.b"):
        producer.publish("somebody must get it", routing_key="video.b", mandatory=True)
    assert bus.listen(connection, queue).stays_at(0)


@pytest.mark.parametrize("durable", [False, True])
def test_a_fanout_that_others_declared_is_heard_by_them(bus: Any, durable: bool) -> None:
    name = f"test.{uuid.uuid4().hex}"
    queue = kombu.Queue(name, kombu.Exchange(f"{name}.x", type="fanout"), auto_delete=not durable, durable=durable)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    kombu.Producer(bus.connect()).publish("to all", exchange=queue.exchange.name)
    assert inbox.wait()[0].decode() == "to all"


def test_a_listener_hears_more_than_the_broker_sends_without_an_acknowledgement(bus: Any) -> None:
    name = f"test.{uuid.uuid4().hex}"
    queue = kombu.Queue(name, kombu.Exchange(f"{name}.x", type="fanout"), auto_delete=True, durable=False)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    producer = kombu.Producer(bus.connect(), exchange=queue.exchange)
    sent = [str(number) for number in range(3 * PREFETCH_OF_TOPICS)]
    for body in sent:
        producer.publish(body, delivery_mode="transient")
    assert [body.decode() for body in inbox.wait(len(sent))] == sent


def test_a_fanout_that_nobody_has_declared_is_an_error(bus: Any) -> None:
    with pytest.raises(Unroutable):
        kombu.Producer(bus.connect()).publish("to nobody", exchange=f"test.{uuid.uuid4().hex}.x")


def test_a_queue_that_only_others_have_bound_gets_nothing_of_what_the_sender_routes(bus: Any) -> None:
    """The sender knows the exchange, but not all of its bindings: docs/reference/broker.md says what to do."""
    theirs = bound("topic")
    mine = kombu.Queue(f"{theirs.name}.mine", theirs.exchange, routing_key="video.#")
    inbox, connection = bus.listen(bus.connect(), theirs, no_ack=True), bus.connect()
    kombu.Producer(connection).publish("once", exchange=theirs.exchange, routing_key="video.a", declare=[mine])
    assert bus.listen(connection, mine, no_ack=True).wait()[0].decode() == "once"
    assert inbox.stays_at(0)


def test_a_celery_client_reaches_a_topic_exchange_of_its_workers_with_the_queues_declared(bus: Any) -> None:
    queue = bound("topic")
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    app = Celery("client", broker=bus.url, set_as_current=False)
    app.conf.task_queues = [queue]
    try:
        with pytest.raises(Unroutable, match="declare="):
            app.send_task("cut", exchange=queue.exchange.name, routing_key="video.a")
        sent = app.send_task("cut", exchange=queue.exchange.name, routing_key="video.a", declare=app.amqp.queues.values())
        routed = app.send_task("cut", queue=queue.name)
    finally:
        app.close()
    assert [message.headers["id"] for message in inbox.wait(2)] == [sent.id, routed.id]


def test_a_topic_exchange_may_live_in_the_broker_where_each_listener_has_a_copy(bus: Any) -> None:
    name = f"test.{uuid.uuid4().hex}"
    exchange = kombu.Exchange(f"{name}.x", type="topic")
    options = {"event_exchanges": [exchange.name]}
    inboxes = [bus.listen(bus.connect(**options), kombu.Queue(f"{name}.q", exchange, routing_key="video.#"), no_ack=True) for _ in range(2)]
    others = bus.listen(bus.connect(**options), kombu.Queue(f"{name}.r", exchange, routing_key="audio.*"), no_ack=True)
    events = bus.listen(bus.connect(**options), kombu.Queue(f"{name}.e", kombu.Exchange("celeryev", type="topic"), routing_key=name), no_ack=True)
    producer = kombu.Producer(bus.connect(**options))
    producer.publish("to both", exchange=exchange.name, routing_key="video.a")
    # Celery's own events go on.
    kombu.Producer(bus.connect()).publish("event", exchange="celeryev", routing_key=name)
    assert [inbox.wait()[0].decode() for inbox in (*inboxes, events)] == ["to both", "to both", "event"]
    assert others.stays_at(0)


def test_a_queue_in_use_is_not_deleted_if_unused(bus: Any, queue: kombu.Queue) -> None:
    connection, other = bus.connect(), bus.connect()
    bus.publish(connection, queue, "first")
    inbox = bus.listen(other, queue)
    mine = queue(connection.default_channel)
    with pytest.raises(PreconditionFailed, match="has consumers"):
        mine.delete(if_unused=True)
    assert inbox.wait()[0].decode() == "first"
    inbox.consumer.cancel()
    inbox.messages[0].requeue()
    # The broker is told without a receipt that the consumer has ended.
    statistics = connection.default_channel.connection.statistics()
    bus.wait_for(lambda: statistics.size(f"/queue/{queue.name}").subscriptions == 0, "the consumer has ended")
    mine.delete(if_unused=True)
    assert bus.listen(connection, queue).stays_at(0)
