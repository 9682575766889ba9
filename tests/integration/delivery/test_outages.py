"""A worker while PostgreSQL is stopped: what it goes on doing, and what it does not hold against an execution."""

import os
import signal
import uuid
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

World = Any


def settled(world: World, node: str) -> bool:
    found = world.size(world.destination(node))
    return (found.waiting, found.in_flight) == (0, 0)


def given_back(world: World, node: str) -> bool:
    found = world.size(world.destination(node))
    return (found.waiting, found.in_flight) == (1, 0)


def answers(world: World, node: str) -> bool:
    """Whether the event loop of a node's worker answers."""
    return any(name.startswith(f"{node}@") for reply in world.app.control.ping(timeout=30, limit=1) for name in reply)


@pytest.mark.parametrize("pool", [pytest.param("threads", marks=pytest.mark.long), "prefork"])
def test_execution_given_back_for_want_of_the_database_is_not_counted_after_a_restart_of_its_worker(world: World, postgres: Any, pool: str) -> None:
    node = world.node("patient", pool=pool, concurrency=2)
    first = world.worker(node)
    started, go = world.folder / "started", world.folder / "go"
    identity = world.record("tests.late_effect", {"started": str(started), "go": str(go)})
    world.until(started.exists, "it runs")
    postgres.stop()
    go.touch()
    world.until(lambda: given_back(world, node), "its message is back in the queue")
    world.stop(first)
    postgres.start()
    second = world.worker(node, FEDERATION_MAX_DELIVERIES="1")
    assert world.result(identity) == {"first": True}
    assert world.rows("SELECT number, redelivered FROM execution_deliveries ORDER BY number") == [(1, False), (2, False)]

    # A crash after all that counts as ever.
    started.unlink()
    go.unlink()
    crashing = world.record("tests.late_effect", {"started": str(started), "go": str(go)})
    world.until(started.exists, "the next one runs")
    os.kill(int(started.read_text()), signal.SIGKILL)
    if pool == "threads":
        second.wait()
        world.worker(node, FEDERATION_MAX_DELIVERIES="1")
    with pytest.raises(Exception, match="delivered 2 times without an end"):
        world.result(crashing)


def test_worker_without_a_database_serves_its_event_loop_while_it_has_revoked_executions_to_report(world: World, postgres: Any) -> None:
    node = world.node("revoking", pool="prefork", concurrency=1)
    world.worker(node)
    started, go = world.folder / "started", world.folder / "go"
    running = world.record("tests.effect", {"started": str(started), "go": str(go)})
    world.until(started.exists, "it runs")
    postgres.stop()
    world.app.control.revoke(str(running), terminate=True, signal="KILL")
    world.until(lambda: "consumer.paused" in world.log(node), "the worker pauses")
    assert answers(world, node)
    assert answers(world, node)
    postgres.start()
    with pytest.raises(TaskRevokedError):
        world.result(running)
    world.until(lambda: settled(world, node), "its message is settled")
    assert world.result(world.record("tests.where"))["node"] == node


def test_worker_without_a_database_serves_its_event_loop_while_a_revoked_message_waits_for_its_record(world: World, postgres: Any) -> None:
    node = world.node("scheduled", concurrency=1)
    # A sign of life that meets no database would pause the worker, perhaps before it has taken the message.
    world.worker(node, FEDERATION_NODE_BEAT_S="600")
    identity = uuid.uuid4()
    # A connection of its own: those in the pool may be of the broker that another test killed.
    with world.app.connection_for_write() as connection:
        assert world.app.control.revoke(str(identity), reply=True, timeout=60, limit=1, connection=connection)
    # So that the worker knows whose signature it will see; it goes by what it knew last.
    world.result(world.record("tests.where"))
    postgres.stop()
    world.publish_raw(node, b"[[], {}, {}]", {"task": "tests.where", "id": str(identity), "lang": "py"})
    world.until(lambda: "Discarding revoked task" in world.log(node), "it is received and revoked")
    assert answers(world, node)
    assert answers(world, node)
    postgres.start()
    world.until(lambda: world.app.AsyncResult(str(identity)).state == "REVOKED", "that is recorded")
    world.until(lambda: settled(world, node), "its message is settled")


def test_workers_are_asked_over_a_connection_that_lay_idle_while_the_broker_was_killed(world: World, activemq: Any) -> None:
    node = world.node("asked", pool="threads", concurrency=1)
    world.worker(node)
    assert answers(world, node)
    activemq.kill()
    activemq.start()
    world.until(lambda: world.app.control.ping(timeout=2, limit=1), "the worker is back and answers")
