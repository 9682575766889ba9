"""ETA and countdown are kept by the broker's scheduler: exact, durable, visible, removable, and off where it is not wanted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery.exceptions import TaskRevokedError

from federation.broker.scheduled import list_scheduled, remove_scheduled
from tests.conftest import ActiveMQServer


def at(text: str) -> datetime:
    """The time that the example's tasks tell."""
    return datetime.fromisoformat(text.rpartition(" at ")[2])


def now() -> datetime:
    return datetime.now(UTC)


def ours(bus: Any, queue: str) -> list[Any]:
    """What is scheduled for one queue."""
    return [one for one in list_scheduled(bus.connect()) if one.queue == queue]


def test_tasks_with_an_eta_wait_in_the_broker_and_run_in_time(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    worker = reminders.start()
    remind = reminders.module.remind
    due = now() + timedelta(seconds=4)
    sent = [
        remind.apply_async(("aware",), eta=due),
        remind.apply_async(("elsewhere",), eta=due.astimezone(datetime.now().astimezone().tzinfo)),
        # Celery takes a naive time for UTC.
        remind.apply_async(("naive",), eta=due.replace(tzinfo=None)),
        remind.apply_async(("countdown",), countdown=4),
    ]
    for result in sent:
        assert at(result.get(timeout=60)) >= due, "it ran too early"
        (received,) = worker.received(result.id)
        assert due - received < timedelta(seconds=1), "it waited in the worker"
    assert ours(bus, reminders.queue) == []


def test_a_naive_eta_is_utc_whatever_the_timezone_of_the_app(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    reminders.app.conf.timezone = "Pacific/Kiritimati"
    due = now() + timedelta(hours=1)
    reminders.module.remind.apply_async(("naive",), eta=due.replace(tzinfo=None))
    (one,) = ours(bus, reminders.queue)
    assert one.eta == due
    assert remove_scheduled(bus.connect(), one.job_id)


def test_a_retry_with_countdown_waits_in_the_broker(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    worker = reminders.start()
    far = reminders.module.knock.delay(1, 3600)
    bus.wait_for(lambda: [one.task_id for one in ours(bus, reminders.queue)] == [far.id], "the retry is scheduled")
    inspect = reminders.app.control.inspect([worker.name], timeout=60, limit=1)
    bus.wait_for(lambda: (inspect.reserved(), inspect.scheduled()) == ({worker.name: []}, {worker.name: []}), "nothing is left in the worker")
    assert remove_scheduled(bus.connect(), ours(bus, reminders.queue)[0].job_id)
    near = reminders.module.knock.delay(2, 2)
    opened = at(near.get(timeout=60))
    times = worker.received(near.id)
    assert len(times) == 3
    assert opened - times[0] >= timedelta(seconds=4)


def test_what_is_scheduled_survives_the_death_of_the_broker(project: Any, bus: Any, activemq: Any) -> None:
    reminders = project("reminders")
    remind = reminders.module.remind
    far = {remind.apply_async(("far",), countdown=3600).id for _ in range(20)}
    near = [remind.apply_async(("near",), countdown=3).id for _ in range(20)]
    activemq.kill()
    activemq.start()
    scheduled = {one.task_id: one.job_id for one in ours(bus, reminders.queue)}
    assert far <= set(scheduled)
    worker = reminders.start()
    bus.wait_for(lambda: all(f"[{id_}] succeeded" in worker.log for id_ in near), "each of them runs")
    assert not any(worker.received(id_) for id_ in far)
    for id_ in far:
        assert remove_scheduled(bus.connect(), scheduled[id_])


def test_a_batch_may_hold_messages_with_an_eta(bus: Any, queue: kombu.Queue) -> None:
    producer = kombu.Producer(bus.connect())
    with producer.batch():
        for number, wait_s in enumerate((3600, 3600, 1.5, 1.5, 1.5)):
            eta = now() + timedelta(seconds=wait_s)
            producer.publish(number, routing_key=queue.name, declare=[queue], headers={"eta": eta.isoformat()})
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(3)
    assert sorted(inbox.bodies) == [2, 3, 4]
    assert [remove_scheduled(bus.connect(), one.job_id) for one in ours(bus, queue.name)] == [True, True]


def test_what_waited_may_be_requeued_and_comes_at_once(bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(), queue, "again", headers={"eta": (now() + timedelta(seconds=1.5)).isoformat()})
    inbox = bus.listen(bus.connect(), queue)
    inbox.wait()[0].requeue()
    again = inbox.wait(2)[1]
    assert again.delivery_info["redelivered"] is True
    again.ack()
    assert ours(bus, queue.name) == []


def test_what_expires_before_its_eta_is_not_run(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    reminders.start()
    # It is sent long before it expires, also by a process that stands still for some seconds.
    due = now() + timedelta(seconds=8)
    late = reminders.module.remind.apply_async(("never",), eta=due, expires=due - timedelta(seconds=1))
    fine = reminders.module.remind.apply_async(("still",), eta=due, expires=due + timedelta(seconds=600))
    assert at(fine.get(timeout=60)) >= due
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=60)


def test_a_scheduled_task_can_be_revoked(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    worker = reminders.start()
    revoked = reminders.module.remind.apply_async(("never",), countdown=8)
    after = reminders.module.remind.apply_async(("after",), countdown=8.5)
    revoked.revoke()
    after.get(timeout=60)
    bus.wait_for(lambda: f"Discarding revoked task: {reminders.module.remind.name}[{revoked.id}]" in worker.log, "it is discarded")
    assert f"[{revoked.id}] succeeded" not in worker.log


def test_a_scheduled_task_can_be_removed_for_good(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    far = reminders.module.remind.apply_async(("far",), countdown=86400 * 60)
    farthest = reminders.module.remind.apply_async(("farthest",), eta=datetime(9999, 12, 31, tzinfo=UTC))
    first, last = ours(bus, reminders.queue)
    assert (first.task_id, last.task_id) == (far.id, farthest.id)
    assert (first.task, first.eta is not None, b"far" in first.body) == (reminders.module.remind.name, True, True)
    connection = bus.connect()
    assert remove_scheduled(connection, first.job_id) is True
    assert remove_scheduled(connection, first.job_id) is False
    assert [one.job_id for one in ours(bus, reminders.queue)] == [last.job_id]
    assert remove_scheduled(connection, last.job_id) is True


def test_all_that_is_scheduled_can_be_removed_one_by_one_and_a_killed_broker_starts_again(activemq: Any, server_dir: Path) -> None:
    # 60 fill two leaves of the broker's index; a removal that empties the first of them fails there, and at each start after a kill again.
    server = type(activemq)(server_dir / "emptied")
    server.start()
    try:
        with kombu.Connection(server.url) as connection:
            queue = kombu.Queue("emptied", routing_key="emptied")
            producer = kombu.Producer(connection)
            with producer.batch():
                for number in range(60):
                    eta = now() + timedelta(seconds=600 + number)
                    producer.publish(number, routing_key=queue.name, declare=[queue], headers={"eta": eta.isoformat()})
            jobs = [one.job_id for one in list_scheduled(connection)]
            assert [remove_scheduled(connection, job) for job in jobs] == [True] * 60
            assert list_scheduled(connection) == []
        server.kill()
        server.start()
        with kombu.Connection(server.url) as connection:
            assert list_scheduled(connection) == []
    finally:
        server.stop()


def test_a_long_schedule_is_listed_whole(bus: Any, queue: kombu.Queue) -> None:
    producer = kombu.Producer(bus.connect())
    with producer.batch():
        for number in range(1000):
            producer.publish(number, routing_key=queue.name, priority=number % 10, headers={"eta": (now() + timedelta(hours=1)).isoformat()})
    waiting = ours(bus, queue.name)
    assert len(waiting) == 1000
    with pytest.raises(TypeError, match="no activemq://"):
        list_scheduled(kombu.Connection("memory://"))


def test_the_option_leaves_an_eta_to_the_worker(bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(schedule_eta=False), queue, "now", headers={"eta": (now() + timedelta(hours=1)).isoformat()})
    assert bus.listen(bus.connect(), queue, no_ack=True).wait()[0].decode() == "now"


def test_without_a_scheduler_the_worker_keeps_the_task(project: Any, bus: Any, server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ActiveMQServer(server_dir / "without-scheduler")
    server.start()
    try:
        reminders = project("reminders")
        monkeypatch.setenv("CELERY_BROKER_URL", server.url)
        worker = reminders.start()
        due = now() + timedelta(seconds=4)
        result = reminders.module.remind.apply_async(("tea",), eta=due)
        reminders.module.remind.apply_async(("supper",), countdown=3600)
        inspect = reminders.app.control.inspect([worker.name], timeout=60, limit=1)
        assert at(result.get(timeout=60)) >= due
        bus.wait_for(lambda: len(inspect.scheduled()[worker.name]) == 1, "the worker holds the other")
        assert list_scheduled(kombu.Connection(server.url)) == []
        worker.kill()
    finally:
        server.stop()
