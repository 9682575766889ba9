"""What runs longer than its time limit fails, in a pool of processes and in one of threads, and what it still does has no effect."""

import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded

from federation.services import agents, tasks
from federation.store import outbox

World = Any


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_an_execution_over_its_time_fails_and_has_no_effect(world: World, pool: str) -> None:
    node = world.node("limited", concurrency=1, pool=pool)
    world.worker(node)
    started, go = files(world)
    over = world.record("tests.limited", {"started": str(started), "go": str(go)})
    world.until(started.exists, "it runs")
    with pytest.raises(TimeLimitExceeded):
        world.app.AsyncResult(str(over)).get(timeout=60)
    assert world.state(over).state == "failed"
    Path(go).touch()
    # The place is free again: of the only thread when it has come to its end, of the process because that was ended.
    assert world.result(world.record("tests.where"))["node"] == node
    settled(world, node)
    assert world.rows("SELECT count(*) FROM execution_effects") == [(0,)]
    assert world.state(over).state == "failed"
    assert world.app.AsyncResult(str(over)).state == "FAILURE"
    told = "SELECT actor, payload->>'error', payload->>'node' FROM events WHERE type = 'execution.failed' AND stream = %s"
    assert world.rows(told, f"execution:{over}") == [(f"node:{node}", "TimeLimitExceeded", node)]


def test_what_waits_for_another_is_ended_when_its_time_is_over_and_its_place_is_free(world: World) -> None:
    node = world.node("ended", concurrency=1, pool="threads")
    world.worker(node)
    started, _ = files(world)
    waiting = world.record("tests.waits_for_another", {"started": str(started)})
    world.until(started.exists, "it waits")
    with pytest.raises(TimeLimitExceeded):
        world.app.AsyncResult(str(waiting)).get(timeout=60)
    assert world.result(world.record("tests.where"))["node"] == node
    assert world.state(waiting).state == "failed"


def test_the_limit_of_one_message_goes_before_that_of_its_task(world: World) -> None:
    node = world.node("patient", concurrency=1, pool="threads")
    world.worker(node)
    started, go = files(world)
    sent = world.app.send_task("tests.late_effect", kwargs={"started": str(started), "go": str(go)}, queue=node, time_limit=1)
    world.until(started.exists, "it runs")
    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=60)
    Path(go).touch()
    assert world.result(world.record("tests.where"))["node"] == node
    assert world.rows("SELECT count(*) FROM execution_effects") == [(0,)]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_task_of_the_node_whose_execution_is_over_time_has_failed(world: World, pool: str) -> None:
    node = world.node("hanging", concurrency=1, pool=pool)
    world.worker(node, FEDERATION_TIME_LIMIT_S="1")
    started, go = files(world)
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "tester", "lead")
    with world.transactions.begin("tester") as session:
        task = tasks.delegate(session, "Take too long.", executor="node", requirements={"node": node})
        kwargs = {"started": str(started), "go": str(go)}
        identity = outbox.record(session, "tests.late_effect", kwargs, requirements={"node": node}, agent_task_id=task.id)
    with pytest.raises(TimeLimitExceeded):
        world.app.AsyncResult(str(identity)).get(timeout=60)
    ended = "SELECT status, result->>'error' FROM agent_tasks WHERE id = %s"
    assert world.rows(ended, task.id) == [("failed", "it ran longer than its time limit of 1 s")]


def test_what_is_in_the_middle_of_a_transaction_when_its_time_is_over_does_not_commit(world: World) -> None:
    node = world.node("slow", concurrency=1, pool="threads")
    world.worker(node)
    started, go = files(world)
    over = world.record("tests.limited_in_a_transaction", {"started": str(started), "go": str(go)})
    with pytest.raises(TimeLimitExceeded):
        world.app.AsyncResult(str(over)).get(timeout=60)
    go.touch()
    assert world.result(world.record("tests.where"))["node"] == node
    settled(world, node)
    assert world.rows("SELECT count(*) FROM execution_effects") == [(0,)]
    assert world.rows("SELECT count(*) FROM execution_deliveries WHERE execution_id = %s", over) == [(1,)]
    assert world.app.AsyncResult(str(over)).state == "FAILURE"


def test_what_ends_in_time_is_left_alone(world: World) -> None:
    node = world.node("quick", concurrency=2, pool="threads")
    # More than a worker under load may stand still in the middle of one.
    world.worker(node, FEDERATION_TIME_LIMIT_S="6")
    assert {world.result(world.record("tests.where"))["node"] for _ in range(5)} == {node}
    time.sleep(7.5)
    assert world.result(world.record("tests.where"))["node"] == node
    assert "over_time" not in world.log(node)
    assert "time limit" not in world.log(node)


def test_a_node_all_of_whose_places_hang_gives_its_work_to_others(world: World) -> None:
    hanging = world.node("hanging", concurrency=2, pool="threads")
    world.worker(hanging, FEDERATION_NODE_STALE_S="3")
    started, go = files(world)
    over = [world.record("tests.limited", {"started": str(started), "go": str(go)}) for _ in range(2)]
    for identity in over:
        with pytest.raises(TimeLimitExceeded):
            world.app.AsyncResult(str(identity)).get(timeout=60)
    waiting = [world.record("tests.where") for _ in range(5)]
    other = world.node("other", concurrency=2, pool="threads")
    world.worker(other, FEDERATION_NODE_STALE_S="3")
    world.celery("beat", name="beat", FEDERATION_NODE_STALE_S="3")
    assert {world.result(identity)["node"] for identity in waiting} == {other}
    assert "node.hangs" in world.log(hanging)
    go.touch()
    world.until(lambda: world.rows("SELECT 1 FROM events WHERE type = 'node.returned' AND stream = %s", f"node:{hanging}"), "it is back")


def files(world: World) -> tuple[Path, Path]:
    """A file that a task makes when it runs, and one that it waits for."""
    tag = uuid.uuid4().hex
    return world.folder / f"started-{tag}", world.folder / f"go-{tag}"


def settled(world: World, node: str) -> None:
    """Wait until each message of a node's queue is settled."""
    world.until(lambda: (size := world.size(world.destination(node))).in_flight + size.waiting == 0, "each is settled")
