"""What a consumer may ask of the broker: only some messages, all of them, or to be asked first."""

import os
import signal
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.errors import ArgumentRefused


def test_each_worker_gets_what_its_selector_selects(project: Any) -> None:
    orders = project("orders")
    for region in ("eu", "us"):
        orders.start("-Q", "orders", REGION=region)
    sent = [(region, orders.module.take.apply_async((number,), stomp_headers={"region": region})) for number in range(20) for region in ("eu", "us")]
    assert [result.get(timeout=60)[0] for _, result in sent] == [region for region, _ in sent]


def test_an_exclusive_consumer_gets_all_and_another_takes_over_when_it_dies(project: Any, bus: Any, tmp_path: Path) -> None:
    orders = project("orders")
    first = orders.start("-Q", "book")
    second = orders.start("-Q", "book")
    book = tmp_path / "book"
    write = orders.module.write
    assert {write.delay(f"{number}", str(book)).get(timeout=60) for number in range(30)} == {first.process.pid}
    # The message that runs when the worker dies comes back too.
    os.kill(first.process.pid, signal.SIGSTOP)
    held = [write.delay(f"late {number}", str(book)) for number in range(10)]
    first.kill()
    assert {result.get(timeout=60) for result in held} == {second.process.pid}


def test_messages_go_to_consumers_of_a_higher_priority_first(project: Any) -> None:
    orders = project("orders")
    orders.start("-Q", "spare", REGION="spare")
    assert orders.module.clean.delay().get(timeout=60) == "spare"
    orders.start("-Q", "spare", REGION="first")
    assert [orders.module.clean.delay().get(timeout=60) for _ in range(10)] == ["first"] * 10


def test_selectors_see_headers_priority_and_group(bus: Any, queue: kombu.Queue) -> None:
    sender = bus.connect()
    bus.publish(sender, queue, "plain")
    bus.publish(sender, queue, "rich", priority=7, message_group="a", stomp_headers={"size": 12, "urgent": True})
    for selector in ("JMSPriority > 5", "JMSXGroupID = 'a'", "message_group = 'a'", "urgent = 'true'", "size > 10"):
        chosen = kombu.Queue(queue.name, routing_key=queue.name, consumer_arguments={"selector": selector})
        inbox = bus.listen(bus.connect(), chosen)
        assert inbox.wait()[0].decode() == "rich", selector
        assert inbox.stays_at(1), selector
        inbox.messages[0].requeue()
        inbox.consumer.cancel()


@pytest.mark.parametrize(
    "arguments",
    [{"selector": ""}, {"selector": 5}, {"exclusive": "yes"}, {"x-priority": 128}, {"x-priority": "high"}, {"selectr": "a = 1"}],
)
def test_arguments_that_make_no_sense_are_refused(bus: Any, queue: kombu.Queue, arguments: dict[str, Any]) -> None:
    connection = bus.connect()
    with pytest.raises(ArgumentRefused, match=next(iter(arguments))):
        bus.listen(connection, kombu.Queue(queue.name, consumer_arguments=arguments))
    bus.publish(connection, queue, "alive")
    assert bus.listen(connection, kombu.Queue(queue.name, consumer_arguments={"x-cancel-on-ha-failover": True}), no_ack=True).wait()


def test_a_selector_that_the_broker_does_not_understand_is_refused_and_the_connection_lives(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    with pytest.raises(ArgumentRefused, match="selector"):
        bus.listen(connection, kombu.Queue(queue.name, consumer_arguments={"selector": "region = = 'eu'"}))
    bus.publish(connection, queue, "alive")
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == "alive"


@pytest.mark.parametrize(("name", "value"), [("destination", "/queue/other"), ("kombu", "{}"), ("note", "x" * 9000)])
def test_headers_that_are_not_the_senders_to_set_are_refused(bus: Any, queue: kombu.Queue, name: str, value: str) -> None:
    connection = bus.connect()
    with pytest.raises(connection.channel_errors, match=name):
        bus.publish(connection, queue, "never", stomp_headers={name: value})
    bus.publish(connection, queue, "alive", stomp_headers={"note": "a:b\\c\nd ä" * 100})
    (message,) = bus.listen(connection, queue, no_ack=True).wait()
    assert message.headers["stomp_headers"] == {"note": "a:b\\c\nd ä" * 100}
