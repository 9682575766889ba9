"""Lists of brokers: who works with one that dies goes on with the next, and asks a dead one less and less often."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.exceptions import OperationalError

DEAD = "activemq://127.0.0.1:1/"


@pytest.fixture(scope="module")
def other(activemq: Any, server_dir: Path) -> Iterator[Any]:
    """A second ActiveMQ that knows nothing of the first."""
    server = type(activemq)(server_dir / "activemq-other")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("strategy", ["round-robin", "shuffle"])
def test_the_first_broker_that_answers_is_taken(activemq: Any, strategy: str) -> None:
    with kombu.Connection(f"{DEAD};{DEAD};{activemq.url}", failover_strategy=strategy) as connection:
        # As often as chance may choose a dead one.
        connection.ensure_connection(max_retries=200, interval_start=0, interval_step=0)
        assert connection.port == activemq.port


def test_a_producer_goes_on_with_the_other_broker(activemq: Any, other: Any, bus: Any, queue: kombu.Queue) -> None:
    bus.url = f"{activemq.url};{other.url}"
    connection = bus.connect()
    producer = kombu.Producer(connection)
    policy = {"max_retries": 200, "interval_start": 0, "interval_max": 0.2}
    try:
        for number in range(100):
            if number == 50:
                activemq.kill()
            producer.publish(number, routing_key=queue.name, retry=True, retry_policy=policy)
        assert connection.port == other.port
        bus.url = other.url
        inbox = bus.listen(bus.connect(), queue, no_ack=True)
        inbox.wait(50)
        assert set(inbox.bodies) == set(range(50, 100))
    finally:
        activemq.start()
    bus.url = activemq.url
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(50)
    assert set(inbox.bodies) == set(range(50)), "what the first had confirmed is still there"


@pytest.fixture(params=["prefork", "threads"])
def worker(request: pytest.FixtureRequest, activemq: Any, other: Any, celery: Any, start: Any) -> Any:
    """A worker of the sample project with the list of both; its clients have the same."""
    celery.conf.broker_url = f"{activemq.url};{other.url}"
    return start(request.param, url=celery.conf.broker_url)


def test_a_worker_and_its_clients_go_on_with_the_other_broker(activemq: Any, worker: Any, celery: Any, tmp_path: Path, bus: Any) -> None:
    folder = tmp_path / "deliveries"
    folder.mkdir()
    task = celery.tasks_of_sample.write_delivery

    def done() -> set[str]:
        return {path.name.split(".")[0] for path in folder.iterdir() if path.suffix != ".part"}

    def send() -> str:
        policy = {"max_retries": 200, "interval_start": 0, "interval_max": 0.2}
        return str(task.apply_async((str(folder),), retry=True, retry_policy=policy, ignore_result=True).id)

    before = {send() for _ in range(10)}
    bus.wait_for(lambda: before <= done(), "the first ten run")
    activemq.kill()
    after = {send() for _ in range(10)}
    bus.wait_for(lambda: after <= done(), "ten more run by way of the other broker")
    assert worker.ready


def test_a_dead_list_is_asked_less_and_less_often() -> None:
    waited: list[float] = []
    asked: list[int] = []

    def note(error: Exception, interval: float) -> None:
        asked.append(connection.port)
        waited.append(interval)

    connection = kombu.Connection(f"{DEAD};activemq://127.0.0.1:2/")
    with pytest.raises(OperationalError, match="is ActiveMQ running"):
        connection.ensure_connection(errback=note, max_retries=7, interval_start=0.01, interval_step=0.01, interval_max=0.03)
    assert asked[:4] == [1, 2, 1, 2], "in turn"
    pauses = [interval for interval in waited if interval]
    assert len(pauses) == len(waited) // 2, "a pause after each round only"
    assert all(earlier <= later for earlier, later in pairwise(pauses))
    assert pauses[0] < pauses[-1] <= 0.03


def test_a_worker_with_a_wrong_password_says_so_and_tries_again_without_haste(activemq: Any, start: Any, bus: Any) -> None:
    worker = start("threads", url=f"activemq://federation:wrong@{activemq.host}:{activemq.port}/", wait=False)

    def refusals() -> list[datetime]:
        lines = re.findall(r"^.(\S+ \S+): ERROR.*refuses user 'federation'.*check user and password", worker.log.read_text(), re.MULTILINE)
        return [datetime.strptime(line, "%Y-%m-%d %H:%M:%S,%f") for line in lines]

    bus.wait_for(lambda: len(refusals()) >= 3, "three refusals stand in the log")
    first, second, third, *_ = refusals()
    assert second - first > timedelta(seconds=1)
    assert third - second > timedelta(seconds=1)
    assert "wrong" not in worker.log.read_text()
