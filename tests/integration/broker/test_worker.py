"""Real Celery workers, as processes of their own, on the transport: work done, killed, told, watched, and carried over a broker's death."""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest


def deliveries(folder: Path) -> list[tuple[int, bool]]:
    """(process, redelivered) of each delivery of `write_delivery`, in order."""
    files = [path for path in folder.iterdir() if path.suffix != ".part" and path.name != "go"]
    lines = [path.read_text().split() for path in sorted(files, key=lambda path: int(path.name.rpartition(".")[2]))]
    return [(int(process), redelivered == "True") for process, redelivered in lines]


def work_queue(bus: Any, name: str = "sample.node.work") -> Any:
    if not bus.opened:
        bus.connect()
    return bus.opened[0].default_channel.connection.statistics().size(f"/queue/{name}")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_run_and_their_results_come_back(celery: Any, start: Any, pool: str, bus: Any, activemq: Any) -> None:
    tasks = celery.tasks_of_sample
    worker = start(pool)
    results = [tasks.add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 51))
    seen = tasks.seen_properties.apply_async(headers={"tenant": "ä"}, priority=7)
    answer = seen.get(timeout=60)
    assert answer.items() >= {"correlation_id": seen.id, "headers": {"tenant": "ä"}, "priority": 7}.items()
    # Acknowledged all: nothing waits, and nothing is in flight.
    bus.wait_for(lambda: work_queue(bus).in_flight == 0, "all is acknowledged")
    assert celery.control.ping(destination=[worker.name], timeout=60, limit=1) == [{worker.name: {"ok": "pong"}}]
    assert celery.control.inspect([worker.name], timeout=60, limit=1).active_queues()[worker.name][0]["name"] == "work"


def test_a_killed_worker_leaves_its_task_to_a_peer_marked_as_redelivered(celery: Any, start: Any, tmp_path: Path, bus: Any) -> None:
    folder = tmp_path / "deliveries"
    folder.mkdir()
    first = start()
    result = celery.tasks_of_sample.write_delivery.delay(str(folder), str(folder / "go"))
    bus.wait_for(lambda: len(deliveries(folder)) == 1, "the first delivery")
    start()
    first.kill()
    bus.wait_for(lambda: len(deliveries(folder)) == 2, "another delivery")
    (folder / "go").touch()
    assert result.get(timeout=60) is True
    assert [redelivered for _, redelivered in deliveries(folder)] == [False, True]


def test_a_killed_child_gives_its_task_back_marked_as_redelivered(celery: Any, start: Any, tmp_path: Path, bus: Any) -> None:
    folder = tmp_path / "deliveries"
    folder.mkdir()
    start()
    result = celery.tasks_of_sample.write_delivery.delay(str(folder), str(folder / "go"))
    bus.wait_for(lambda: len(deliveries(folder)) == 1, "the first delivery")
    os.kill(deliveries(folder)[0][0], signal.SIGKILL)
    bus.wait_for(lambda: len(deliveries(folder)) == 2, "another delivery")
    (folder / "go").touch()
    assert result.get(timeout=60) is True
    assert deliveries(folder)[1][1] is True


def test_a_worker_that_shuts_down_finishes_its_task_while_a_peer_takes_the_rest(celery: Any, start: Any, tmp_path: Path, bus: Any) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    running.mkdir()
    waiting.mkdir()
    tasks = celery.tasks_of_sample
    first = start()
    held = tasks.write_delivery.delay(str(running), str(running / "go"))
    bus.wait_for(lambda: len(deliveries(running)) == 1, "it runs")
    start()
    first.process.send_signal(signal.SIGTERM)
    # Of two subscriptions each, one stays for what runs.
    bus.wait_for(lambda: work_queue(bus).subscriptions == 3, "the consumer is cancelled")
    assert [tasks.write_delivery.delay(str(waiting)).get(timeout=60) for _ in range(6)] == [False] * 6
    (running / "go").touch()
    assert held.get(timeout=60) is False
    first.process.wait(60)
    assert len(deliveries(running)) == 1, "a peer ran what was running"


def test_events_of_a_worker_arrive(celery: Any, start: Any, bus: Any) -> None:
    kinds: list[str] = []
    receiver = celery.events.Receiver(bus.connect(), handlers={"*": lambda event: kinds.append(event["type"])})
    with receiver.consumer_context() as (connection, _, _):
        start("threads", wait=False)
        celery.tasks_of_sample.add.delay(1, 1)

        def heard() -> bool:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            return {"worker-online", "task-received", "task-succeeded"} <= set(kinds)

        bus.wait_for(heard, "events of the worker")


def test_workers_mingle_and_gossip(celery: Any, start: Any, bus: Any) -> None:
    start("threads")

    def mingled() -> Any:
        worker = start("threads", mingle=True)
        if "mingle: sync with 1 nodes" in worker.log.read_text():
            return worker
        # Celery gives its peers a second to answer; where the first one needed longer, another tries.
        worker.kill()
        return None

    found: list[Any] = []
    bus.wait_for(lambda: found.append(mingled()) or found[-1] is not None, "a second one mingles with the first")
    second = found[-1]
    third = start("threads")
    bus.wait_for(lambda: f"{third.name} joined the party" in second.log.read_text(), "gossip of the third")


def test_messages_of_others_do_not_stop_a_worker(celery: Any, start: Any, plain: Any, bus: Any) -> None:
    worker = start("threads")
    plain.send("/queue/sample.node.work", b"hello", persistent="true")
    plain.send("/queue/sample.node.work", b'{"task": []}', **{"content-type": "application/json", "task": "sample_app.add"})
    plain.send("/queue/sample.node.work", b"[]", kombu='{"headers": {"task": []}, "properties": {}}')
    assert celery.tasks_of_sample.add.delay(2, 2).get(timeout=60) == 4
    assert worker.ready
    assert plain.receive("/queue/DLQ.sample.node.work").body == b"hello"


def test_no_task_is_lost_when_the_broker_is_killed(celery: Any, start: Any, activemq: Any, tmp_path: Path, bus: Any) -> None:
    folder = tmp_path / "deliveries"
    folder.mkdir()
    worker = start("threads")
    tasks = celery.tasks_of_sample
    sent: list[str] = []
    failed: list[BaseException] = []

    def send() -> None:
        try:
            for _ in range(100):
                policy = {"max_retries": 600, "interval_start": 0.2, "interval_max": 0.5}
                sent.append(tasks.write_delivery.apply_async((str(folder),), retry=True, retry_policy=policy, ignore_result=True).id)
        except BaseException as error:
            failed.append(error)
            raise

    sender = threading.Thread(target=send)
    sender.start()
    bus.wait_for(lambda: len(sent) >= 30, "some are sent")
    before = len(sent)
    activemq.kill()
    activemq.start()
    sender.join(120)
    assert not sender.is_alive()
    assert not failed

    def done() -> set[str]:
        return {path.name.split(".")[0] for path in folder.iterdir() if path.suffix != ".part"}

    def missing() -> str:
        story = [
            f"missing, by their place among those sent: {[place for place, task in enumerate(sent) if task not in done()]}",
            f"sent before the broker was killed: at least {before}",
            f"the worker's process ended: {worker.process.poll()}",
            f"in the queue: {work_queue(bus)}; dead letters: {work_queue(bus, 'DLQ.sample.node.work')}",
            f"the worker:\n{worker.log.read_text()[-5000:]}",
            f"the broker:\n{activemq.log[-3000:]}",
        ]
        # Has the broker lost them, or has it them in its store and gives them to nobody? Started anew, it reads that anew.
        activemq.kill()
        activemq.start()
        with contextlib.suppress(AssertionError):
            bus.wait_for(lambda: set(sent) <= done(), "the rest runs")
        return "\n".join([f"missing after another start of the broker: {len(set(sent) - done())}", *story])

    bus.wait_for(lambda: set(sent) <= done(), "every confirmed task runs", else_tell=missing)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_loses_its_broker_logs_no_error_of_its_own(celery: Any, start: Any, activemq: Any, bus: Any, pool: str) -> None:
    worker = start(pool)

    def log() -> str:
        return str(worker.log.read_text())

    connected = log().count("Connected to activemq")
    activemq.kill()
    bus.wait_for(lambda: "Trying again in" in log(), "the worker has lost it")
    activemq.start()
    bus.wait_for(lambda: log().count("Connected to activemq") > connected, "the worker connects again")
    with celery.connection_for_write() as connection:
        connection.ensure_connection()
        assert celery.tasks_of_sample.add.apply_async((1, 1), connection=connection).get(timeout=60) == 2
    assert "Error on restarting" not in log()


def test_what_waits_in_a_worker_is_shown_and_leaves_room_for_the_rest(celery: Any, start: Any, bus: Any) -> None:
    tasks, inspect = celery.tasks_of_sample, celery.control.inspect(timeout=60, limit=1)
    name = start("threads").name

    def ask(command: str, *arguments: Any) -> Any:
        return getattr(celery.control, command)(*arguments, reply=True, timeout=60, limit=1)[0][name]

    with celery.connection_for_write() as connection:
        # Such a message comes at once, as from a broker without a scheduler.
        connection.transport_options["schedule_eta"] = False
        later = tasks.add.apply_async((1, 1), countdown=3600, connection=connection)
    bus.wait_for(lambda: [entry["request"]["id"] for entry in inspect.scheduled()[name]] == [later.id], "it is scheduled")
    ask("revoke", later.id)
    assert later.id in inspect.revoked()[name]
    assert "ok" in ask("rate_limit", "sample_app.total", "1/h")
    assert "sample_app.total [rate_limit=1/h]" in inspect.registered("rate_limit")[name]
    first, second = tasks.total.delay([1]), tasks.total.delay([2])
    assert first.get(timeout=60) == 1
    assert [tasks.add.delay(number, 1).get(timeout=60) for number in range(3)] == [1, 2, 3]
    assert second.state == "PENDING"


def test_a_worker_told_to_shut_down_ends(celery: Any, start: Any) -> None:
    worker = start("threads")
    assert celery.tasks_of_sample.add.delay(1, 1).get(timeout=60) == 2
    celery.control.shutdown(destination=[worker.name])
    assert worker.process.wait(60) == 0
