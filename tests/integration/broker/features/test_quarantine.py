"""A hook judges what was redelivered: it sees each message under one id however often it comes back, and may put it aside."""

import sqlite3
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.dead_letters import list_dead_letters, redrive
from federation.broker.errors import OptionRefused
from federation.broker.redelivery import Redelivered


def counted(folder: Path) -> list[int]:
    if not (folder / "redelivered.db").exists():
        return []
    with sqlite3.connect(folder / "redelivered.db") as database:
        return [times for (times,) in database.execute("SELECT times FROM redelivered")]


def letters(bus: Any, queue: str) -> list[Any]:
    return list(list_dead_letters(bus.connect(), queue))


def test_a_task_that_kills_its_child_process_is_put_aside_and_the_worker_goes_on(project: Any, bus: Any, tmp_path: Path) -> None:
    quarantine = project("quarantine")
    quarantine.start(folder=tmp_path, concurrency=1)
    poisoned = quarantine.module.poison.apply_async(("child",), ignore_result=True)
    bus.wait_for(lambda: bool(letters(bus, quarantine.queue)), "it is put aside")
    (letter,) = letters(bus, quarantine.queue)
    assert (letter.task_id, letter.reason) == (poisoned.id, "quarantine.poison came back 3 times")
    assert counted(tmp_path) == [3]
    assert quarantine.module.harmless.delay().get(timeout=60) == "done"
    # Sent back, it is a message with a life of its own again.
    assert redrive(bus.connect(), quarantine.queue) == 1
    bus.wait_for(lambda: bool(letters(bus, quarantine.queue)), "it is put aside again")
    assert sorted(counted(tmp_path)) == [3, 3]


def test_a_task_that_kills_its_worker_is_put_aside_after_as_many_workers(project: Any, bus: Any, tmp_path: Path) -> None:
    quarantine = project("quarantine")
    poisoned = quarantine.module.poison.apply_async(("worker",), ignore_result=True)
    for dead in range(3):
        worker = quarantine.start(folder=tmp_path, concurrency=1, wait=False)
        worker.process.wait(120)
        worker.kill()
        assert sum(counted(tmp_path)) == dead
    last = quarantine.start(folder=tmp_path, concurrency=1)
    bus.wait_for(lambda: [letter.task_id for letter in letters(bus, quarantine.queue)] == [poisoned.id], "it is put aside")
    assert quarantine.module.harmless.delay().get(timeout=60) == "done"
    assert last.ready


def test_the_hook_is_asked_about_redelivered_messages_only_and_knows_them_again(bus: Any, queue: kombu.Queue) -> None:
    seen: list[Redelivered] = []

    def hook(message: Redelivered) -> str | None:
        seen.append(message)
        return "enough" if len(seen) == 3 else None

    connection = bus.connect(on_redelivered=hook, queue_prefix="pre.")
    bus.publish(connection, queue, "x", headers={"task": "sum", "tenant": "ä"})
    inbox = bus.listen(connection, queue)
    for number in range(3):
        message = inbox.wait(number + 1)[number]
        assert len(seen) == number
        message.requeue()
    bus.wait_for(lambda: [inbox.stays_at(3), len(seen)] == [True, 3], "it is refused")
    assert {(one.message_id, one.queue, one.task, one.headers["tenant"]) for one in seen} == {(seen[0].message_id, queue.name, "sum", "ä")}
    # The broker is told without a receipt that it is dead.
    bus.wait_for(lambda: [letter.reason for letter in list_dead_letters(connection, queue.name)] == ["enough"], "it is a dead letter")


def test_get_passes_over_what_is_put_aside(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect(on_redelivered=lambda message: message.headers.get("refuse"))
    bound = queue(connection.default_channel)
    bus.publish(connection, queue, "again", headers={"refuse": "for a reason"})
    bound.get().requeue()
    bus.publish(connection, queue, "first")
    assert bound.get(no_ack=True).decode() == "first"
    assert bound.get() is None
    assert [(letter.body, letter.reason) for letter in letters(bus, queue.name)] == [(b"again", "for a reason")]


def test_a_hook_that_fails_lets_the_message_through_and_says_so(bus: Any, queue: kombu.Queue, caplog: pytest.LogCaptureFixture) -> None:
    def hook(message: Redelivered) -> str | None:
        raise ConnectionError("the store is away")

    connection = bus.connect(on_redelivered=hook)
    bus.publish(connection, queue, "x")
    inbox = bus.listen(connection, queue)
    inbox.wait()[0].requeue()
    inbox.wait(2)[1].ack()
    assert "the store is away" in caplog.text


def test_a_hook_that_does_not_exist_is_refused_when_it_is_needed(bus: Any, queue: kombu.Queue) -> None:
    with pytest.raises(OptionRefused, match="no_such_module"):
        bus.publish(bus.connect(on_redelivered="no_such_module:hook"), queue, "x")
