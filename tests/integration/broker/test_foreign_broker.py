"""A broker as a stranger runs it: default policies, no statistics plugin, no scheduler, nobody asked for a password."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker import statistics
from federation.broker.errors import StatisticsMissing, StatisticsSilent, Unroutable

# Policies, plugins and limits: what a configuration that was not written for us does not have.
OURS = re.compile(
    r"<(destinationPolicy|plugins|systemUsage)>.*</\1>|(schedulerSupport|schedulePeriodForDestinationPurge|advisorySupport)=\S+"
    r"|rejectDurableConsumers=\S+(?=>)",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def stranger(activemq: Any, server_dir: Path) -> Iterator[Any]:
    server = type(activemq)(server_dir / "activemq-stranger")
    configuration = server_dir / "activemq-stranger" / "activemq.xml"
    written = server._part

    def configure() -> None:
        written.prepare()
        text, changes = OURS.subn("", configuration.read_text())
        assert changes == 7
        configuration.write_text(text)

    server._part = replace(written, prepare=configure)
    server.start()
    yield server
    server.stop()


def test_messages_are_taken_one_by_one_and_purged_where_no_sizes_are_told(stranger: Any, bus: Any, queue: kombu.Queue) -> None:
    bus.url = stranger.url
    connection = bus.connect()
    bound = queue(connection.default_channel)
    bound.declare()
    with pytest.raises(StatisticsMissing, match="statisticsBrokerPlugin") as error:
        bound.queue_declare(passive=True)
    assert not isinstance(error.value, StatisticsSilent)
    for number in range(25):
        bus.publish(connection, queue, number)
    got: list[Any] = []

    def get() -> bool:
        # Nothing but silence tells that a queue is empty, and a busy machine may be silent for a while.
        got.extend(filter(None, [bound.get()]))
        return bool(got)

    bus.wait_for(get, "the first is taken")
    message = got.pop()
    assert (message.decode(), message.delivery_info["redelivered"]) == (0, False)
    message.requeue()
    purged = 0

    def purge() -> bool:
        nonlocal purged
        purged += bound.purge()
        return purged >= 25

    bus.wait_for(purge, "all are purged")
    assert purged == 25
    assert bound.get() is None


def test_a_message_comes_back_marked_and_a_refused_one_dies_where_the_brokers_policy_says(stranger: Any, bus: Any, queue: kombu.Queue) -> None:
    bus.url = stranger.url
    connection = bus.connect(dead_letter_queue="")
    bus.publish(connection, queue, "x")
    inbox = bus.listen(connection, queue)
    inbox.wait()[0].requeue()
    again = inbox.wait(2)[1]
    assert again.delivery_info["redelivered"] is True
    again.reject()
    dead = kombu.Queue("ActiveMQ.DLQ", routing_key="ActiveMQ.DLQ")
    assert bus.listen(bus.connect(), dead, no_ack=True).wait()[0].decode() == "x"


def test_a_fanout_of_others_is_sent_with_a_word_where_nobody_can_tell_who_hears_it(stranger: Any, bus: Any, caplog: pytest.LogCaptureFixture) -> None:
    bus.url = stranger.url
    name = f"test.{uuid.uuid4().hex}"
    queue = kombu.Queue(name, kombu.Exchange(f"{name}.x", type="fanout"), auto_delete=True, durable=False)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    producer = kombu.Producer(bus.connect())
    for number in range(2):
        producer.publish(number, exchange=queue.exchange.name)
    inbox.wait(2)
    assert inbox.bodies == [0, 1]
    assert [record.levelname for record in caplog.records if "nobody knows who hears it" in record.message] == ["WARNING"]
    with pytest.raises(Unroutable):
        producer.publish("certainly", exchange=queue.exchange.name, mandatory=True)


def test_a_worker_runs_tasks_gives_some_back_and_keeps_what_is_for_later(stranger: Any, celery: Any, start: Any) -> None:
    celery.conf.broker_url = stranger.url
    worker = start("threads", url=stranger.url)
    tasks = celery.tasks_of_sample
    results = [tasks.add.delay(number, 1) for number in range(20)]
    back = [tasks.done_when_back.delay() for _ in range(5)]
    later = tasks.add.apply_async((1, 1), countdown=0.5)
    assert [result.get(timeout=60) for result in results] == list(range(1, 21))
    assert [result.get(timeout=60) for result in back] == [True] * 5
    assert later.get(timeout=60) == 2
    assert celery.control.ping(destination=[worker.name], timeout=60, limit=1) == [{worker.name: {"ok": "pong"}}]


def test_a_broker_that_stands_still_is_not_taken_for_one_without_the_plugin(
    activemq: Any, bus: Any, queue: kombu.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = bus.connect()
    bus.publish(connection, queue, "x")
    transport = connection.default_channel.connection
    dial = transport._dial

    def dial_and_freeze(heartbeat_s: float) -> Any:
        wire = dial(heartbeat_s)
        activemq.freeze()
        return wire

    with monkeypatch.context() as patched:
        patched.setattr(transport, "_dial", dial_and_freeze)
        patched.setattr(statistics, "SECONDS_TO_ANSWER", 0.2)
        patched.setattr(statistics, "SECONDS_BEFORE_DOUBT", 0.1)
        try:
            with pytest.raises(StatisticsSilent, match="ask again"):
                transport.statistics()
        finally:
            activemq.thaw()
    assert transport.statistics().size(f"/queue/{queue.name}").waiting == 1
