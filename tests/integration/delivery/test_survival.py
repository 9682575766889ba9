"""Workers against what nobody expects: foreign messages, a database that refuses, retries that cannot be sent."""

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from federation.delivery.app import QUEUE_PREFIX
from federation.services import agents, tasks
from federation.store import outbox

World = Any

GOOD = json.dumps([[], {}, {}]).encode()

FOREIGN_HEADERS: list[dict[str, Any]] = [
    {"stamped_headers": 5},
    {"stamps": {"a": 5}, "stamped_headers": "a"},
    {"stamps": "y"},
    {"timelimit": ["a", "b"]},
    {"timelimit": [5, {}]},
    {"shadow": {"a": 1}},
    {"group": {"a": 1}},
    {"root_id": {}},
    {"parent_id": [1]},
    {"retries": "x"},
    {"expires": "0001-01-01T00:00:00+14:00"},
    {"id": "x" * 300},
    {"id": "a\0b"},
]
FOREIGN_BODIES: list[Any] = [
    [[], {}, {"callbacks": 5}],
    [[], {}, {"chain": {"a": 1}}],
    [[], {}, {"errbacks": "zz"}],
    [[], {}, {"chord": "x"}],
    [["one", "too many"], {}, {}],
    [[], {"self": "twice"}, {}],
]


def task_message(name: str, **headers: Any) -> dict[str, Any]:
    return {"task": name, "id": str(uuid.uuid4()), "lang": "py", **headers}


@contextmanager
def revoked(world: World, right: str, table: str) -> Iterator[None]:
    asked = "SELECT role FROM unnest(%s::text[]) AS role WHERE has_table_privilege(role, %s, %s)"
    with psycopg.connect(world.owner_url, autocommit=True) as owner:
        had = [role for (role,) in owner.execute(asked, [["federation_app", "federation_service"], table, right])]
        owner.execute(f"REVOKE {right} ON {table} FROM {', '.join(had)}")
        try:
            yield
        finally:
            owner.execute(f"GRANT {right} ON {table} TO {', '.join(had)}")


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_foreign_messages_are_put_aside_and_no_pool_dies_of_them(world: World, pool: str) -> None:
    node = world.node("foreign", pool=pool, concurrency=2)
    process = world.worker(node)
    for headers in FOREIGN_HEADERS:
        world.publish_raw(node, GOOD, task_message("tests.where", **headers))
    for body in FOREIGN_BODIES:
        world.publish_raw(node, json.dumps(body).encode(), task_message("tests.where"))
    expected = len(FOREIGN_HEADERS) + len(FOREIGN_BODIES)
    world.until(lambda: process.poll() is not None or world.rows("SELECT count(*) FROM quarantine") == [(expected,)], "all are put aside")
    assert process.poll() is None, world.log(node)
    assert world.result(world.record("tests.where"))["node"] == node
    world.until(lambda: world.size(world.destination(node)).in_flight == 0, "each is settled")


def test_message_that_cannot_be_recorded_goes_to_the_dead_letters_and_frees_its_place(world: World) -> None:
    node = world.node("unrecorded", concurrency=1)
    world.worker(node)
    with revoked(world, "INSERT", "quarantine"):
        for _ in range(3):
            world.publish_raw(node, GOOD, task_message("no.such.task"))
        dead = f"/queue/DLQ.{QUEUE_PREFIX}{node}"
        world.until(lambda: (found := world.size(dead)) is not None and found.waiting == 3, "the dead letters have them")
        assert world.result(world.record("tests.where"))["node"] == node


def test_node_gives_signs_of_life_again_after_the_database_refused_one(world: World) -> None:
    node = world.node("refused")
    world.worker(node)
    with revoked(world, "UPDATE", "nodes"):
        world.until(lambda: "node.beat_failed" in world.log(node), "a sign of life is refused")
    [(allowed,)] = world.rows("SELECT clock_timestamp()")
    world.until(lambda: world.rows("SELECT 1 FROM nodes WHERE last_seen_at > %s", allowed), "signs of life go on")


def test_retry_that_cannot_be_sent_gives_its_delivery_back(calm: World) -> None:
    identity = calm.record("tests.unsendable_retry", {"tried": str(calm.folder / "tried")})
    assert calm.result(identity) == "done"
    assert (calm.state(identity).state, calm.state(identity).deliveries) == ("completed", 2)


def test_delivery_that_another_transaction_was_in_the_way_of_comes_back(world: World) -> None:
    node = world.node("locked", concurrency=1)
    with psycopg.connect(world.owner_url, autocommit=True) as owner:
        world.worker(node, PGOPTIONS="-c lock_timeout=2s")
        with owner.transaction():
            owner.execute("LOCK TABLE execution_deliveries IN ACCESS EXCLUSIVE MODE")
            identity = world.record("tests.where")
            world.until(lambda: "another transaction was in the way" in world.log(node), "the delivery is given back")
    assert world.result(identity)["node"] == node
    assert world.state(identity).state == "completed"


def test_task_of_a_node_ends_when_its_execution_fails_unexpectedly(world: World) -> None:
    world.worker(world.node("failing", simulated=True, engines=["llamacpp"]))
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
    with revoked(world, "SELECT", "model_runs"):
        with world.transactions.begin("ada") as session:
            identity = tasks.delegate(session, "do", executor="node").id
        world.until(lambda: world.rows("SELECT 1 FROM agent_tasks WHERE status = 'failed'"), "the task has failed")
    [(result,)] = world.rows("SELECT result FROM agent_tasks WHERE id = %s", identity)
    assert "model_runs" in result["error"]


def test_task_ends_when_its_execution_is_put_aside(calm: World) -> None:
    with calm.transactions.begin("cli:tester") as session:
        agents.add(session, "bob", "lead")
    with calm.transactions.begin("bob") as session:
        identity = tasks.delegate(session, "do", slug="future").id
        outbox.record(session, "tests.from.the.future", {}, agent_task_id=identity)
    calm.until(lambda: calm.rows("SELECT 1 FROM agent_tasks WHERE id = %s AND status = 'failed'", identity), "the task has failed")
    [(result,)] = calm.rows("SELECT result FROM agent_tasks WHERE id = %s", identity)
    assert result["error"].startswith("unknown task")


@pytest.mark.parametrize(("pool", "how"), [("threads", "memory"), ("threads", "exit"), ("threads", "interrupt"), ("prefork", "memory")])
def test_body_that_ends_as_if_the_whole_process_should_fails_alone(world: World, pool: str, how: str) -> None:
    node = world.node("tough", pool=pool, concurrency=2)
    worker = world.worker(node)
    broken = [world.record("tests.breaks_off", {"how": how}) for _ in range(3)]
    for identity in broken:
        with pytest.raises(Exception, match=r"it ran out of memory|as if it were a program of its own"):
            world.result(identity)
    assert world.result(world.record("tests.where"))["node"] == node
    world.until(lambda: (size := world.size(world.destination(node))).in_flight + size.waiting == 0, "each is settled")
    assert worker.poll() is None
    assert {world.state(identity).state for identity in broken} == {"failed"}
    # Each has its event, though none belongs to a task; of what it said the log has nothing.
    told = "SELECT stream, payload - 'version' FROM events WHERE type = 'execution.failed'"
    wanted = {f"execution:{identity}": {"error": "BrokenOff", "node": node} for identity in broken}
    world.until(lambda: len(world.rows(told)) == len(wanted), "each failure is told")
    assert dict(world.rows(told)) == wanted


def test_what_waits_for_its_signers_key_when_its_worker_ends_goes_back_and_runs_later(calm: World) -> None:
    # So that who sends has made its key known.
    calm.result(calm.record("tests.where"))
    node = calm.node("ending", tags=["ending"], pool="threads", concurrency=2)
    worker = calm.worker(node)
    with psycopg.connect(calm.owner_url) as line:
        line.execute("LOCK TABLE signers IN ACCESS EXCLUSIVE MODE")
        identity = calm.record("tests.where", tags=["ending"])
        asked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%signers%%'"
        calm.until(lambda: calm.rows(asked), "its signer's key is looked up")
        worker.send_signal(signal.SIGTERM)
        calm.until(lambda: "Warm shutdown" in calm.log(node), "the worker is told to end")
    assert worker.wait(60) == 0
    assert calm.rows("SELECT reason FROM quarantine WHERE execution_id = %s", identity) == []
    calm.worker(node)
    assert calm.result(identity)["node"] == node
