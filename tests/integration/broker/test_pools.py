"""Every pool of Celery's that is in use: processes, threads, one after the other, and greenlets."""

import os
import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import kombu
import pytest
from kombu import pools

from federation.broker.errors import ConnectionLost, RequestRefused

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_run_and_their_results_come_back(celery: Any, start: Any, pool: str) -> None:
    tasks = celery.tasks_of_sample
    worker = start(pool)
    results = [tasks.add.delay(number, 1) for number in range(100)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 101))
    # A task that publishes in its turn, from the pool's own processes, threads or greenlets.
    assert tasks.add_by_others.delay(list(range(20))).get(timeout=60) == 20
    assert celery.control.ping(destination=[worker.name], timeout=60, limit=1) == [{worker.name: {"ok": "pong"}}]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads at once, and raise the first error of any of them."""
    failed: list[BaseException] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            together.wait(60)
            work(number)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_sixteen_threads_on_one_connection_each_hear_of_their_own_messages(bus: Any, activemq: Any) -> None:
    """Every second message of a thread goes where its user may not write: exactly those must fail, whoever reads the answers."""
    url, own = bus.url, f"federation.from.{uuid.uuid4().hex}"
    bus.url = f"activemq://stomp:{quote(activemq.passwords['stomp'])}@{activemq.host}:{activemq.port}/"
    connection = bus.connect()
    connection.connect()

    def publish(thread: int) -> None:
        producer = kombu.Producer(connection.channel())
        for number in range(20):
            producer.publish([thread, number], routing_key=own)
            with pytest.raises(RequestRefused):
                producer.publish([thread, number], routing_key="federation.node.secret")

    in_threads(16, publish)
    bus.url = url
    inbox = bus.listen(bus.connect(), kombu.Queue(own, routing_key=own), no_ack=True)
    inbox.wait(320)
    assert sorted(inbox.bodies) == [[thread, number] for thread in range(16) for number in range(20)]


def test_threads_may_ask_for_sizes_at_once(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    queues = [kombu.Queue(f"{queue.name}.{number}", routing_key=f"{queue.name}.{number}") for number in range(8)]
    for number, one in enumerate(queues):
        for _ in range(number + 1):
            bus.publish(connection, one, "x")

    def ask(number: int) -> None:
        for _ in range(10):
            assert queues[number](connection.default_channel).queue_declare(passive=True).message_count == number + 1

    in_threads(8, ask)


def test_a_forked_child_publishes_by_a_connection_of_its_own(bus: Any, queue: kombu.Queue) -> None:
    """A web server that was loaded before it forked hands its pool of connections to each child."""
    connection = bus.connect()
    inbox = bus.listen(connection, queue)
    pool = pools.producers[connection]

    def publish(body: str) -> int:
        with pool.acquire(block=True) as producer:
            producer.publish(body, routing_key=queue.name, retry=True)
            return int(producer.connection.transport.wire.fileno())

    publish("before")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            publish("child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    publish("after")
    inbox.wait(3)
    assert sorted(inbox.bodies) == ["after", "before", "child"]
    for message in inbox.messages:
        message.ack()


def test_a_child_forked_while_a_thread_reads_does_not_wait_for_that_thread(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    connection.connect()
    wire = connection.transport.wire
    with wire._turn:
        # As if another thread were just handing frames over.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                wire.read(60)
            except ConnectionLost:
                status = 0
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
