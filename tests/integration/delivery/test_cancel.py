"""What is cancelled does not run, or what it still does has no effect; what is quarantined is sent again, and has its effect once."""

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from federation.errors import Conflict, NotFound
from federation.mcp.waits import standing
from federation.services import executions, quarantine
from federation.store.context import context

World = Any


def cancel(world: World, identity: uuid.UUID, *, aloud: bool = True) -> bool:
    with world.transactions.begin("tester") as session:
        done = executions.cancel(session, identity, "not wanted any more")
        if not aloud:
            # As if this process died after its commit.
            context(session).cancelled.clear()
    return done


def effects(world: World, identity: uuid.UUID) -> int:
    [(count,)] = world.rows("SELECT count(*) FROM execution_effects WHERE execution_id = %s", identity)
    return int(count)


def files(world: World) -> dict[str, str]:
    return {"started": str(world.folder / f"started-{uuid.uuid4().hex}"), "go": str(world.folder / f"go-{uuid.uuid4().hex}")}


def assert_revoked(world: World, identity: uuid.UUID) -> None:
    with pytest.raises(TaskRevokedError):
        world.app.AsyncResult(str(identity)).get(timeout=60)
    assert world.state(identity).state == "cancelled"


def put_aside(world: World, identity: uuid.UUID) -> None:
    world.until(lambda: world.state(identity).state == "quarantined", "it is put aside")
    world.until(lambda: world.app.AsyncResult(str(identity)).state == "FAILURE", "its failure is stored")


@pytest.mark.parametrize("aloud", [True, False], ids=["told", "untold"])
def test_a_queued_execution_is_not_run(world: World, aloud: bool) -> None:
    node = world.node("busy", concurrency=1)
    world.worker(node)
    first, second = files(world), files(world)
    running = world.record("tests.effect", first)
    world.until(Path(first["started"]).exists, "the first one runs")
    queued = world.record("tests.effect", second)
    assert cancel(world, queued, aloud=aloud)
    assert not cancel(world, queued, aloud=aloud)
    Path(first["go"]).touch()
    Path(second["go"]).touch()
    world.result(running)
    assert world.result(world.record("tests.where"))["node"] == node
    assert_revoked(world, queued)
    assert effects(world, queued) == 0
    assert not Path(second["started"]).exists()
    world.until(lambda: (size := world.size(world.destination(node))).in_flight + size.waiting == 0, "each is settled")


@pytest.mark.parametrize("aloud", [True, False], ids=["told", "untold"])
def test_what_a_running_thread_still_does_has_no_effect(world: World, aloud: bool) -> None:
    node = world.node("thread", concurrency=2, pool="threads")
    world.worker(node)
    given = files(world)
    identity = world.record("tests.late_effect", given)
    world.until(Path(given["started"]).exists, "it runs")
    assert cancel(world, identity, aloud=aloud)
    Path(given["go"]).touch()
    assert_revoked(world, identity)
    world.until(lambda: world.size(world.destination(node)).in_flight == 0, "its message is settled")
    assert effects(world, identity) == 0
    assert world.result(world.record("tests.where"))["node"] == node
    assert world.state(identity).state == "cancelled"


def test_a_running_process_is_ended_and_its_place_is_free(world: World) -> None:
    node = world.node("process", concurrency=1, pool="prefork")
    world.worker(node)
    given = files(world)
    identity = world.record("tests.late_effect", given)
    world.until(Path(given["started"]).exists, "it runs")
    pid = int(Path(given["started"]).read_text())
    assert cancel(world, identity)
    world.until(lambda: not Path(f"/proc/{pid}").exists(), "its process ends")
    assert world.result(world.record("tests.where"))["node"] == node
    Path(given["go"]).touch()
    assert_revoked(world, identity)
    assert effects(world, identity) == 0


def test_what_waits_for_a_node_is_not_sent_to_it(world: World) -> None:
    identity = world.record("tests.where", role="lead")
    assert world.state(identity).state == "unplaced"
    assert cancel(world, identity)
    node = world.node("late", role="lead")
    world.worker(node)
    assert world.result(world.record("tests.where", role="lead"))["node"] == node
    assert_revoked(world, identity)
    assert world.state(identity).deliveries == 0


def test_what_has_ended_stays_as_it_ended(world: World) -> None:
    world.worker(world.node("done"))
    identity = world.record("tests.where")
    world.result(identity)
    assert not cancel(world, identity)
    assert world.state(identity).state == "completed"


def test_progress_is_seen_and_ends_what_is_not_wanted(world: World) -> None:
    world.worker(world.node("slow"))
    given = files(world)
    identity = world.record("tests.progress", given)
    world.until(lambda: world.app.AsyncResult(str(identity)).state == "PROGRESS", "it tells its progress")
    assert world.app.AsyncResult(str(identity)).info == {"done": 1, "total": 3, "note": "chewing"}
    assert (world.state(identity).state, world.state(identity).progress) == ("running", {"done": 1, "total": 3, "note": "chewing"})
    with world.transactions.begin("tester") as session:
        assert standing(session, identity).note == "1 of 3: chewing"
    assert cancel(world, identity)
    Path(given["go"]).touch()
    assert_revoked(world, identity)


def test_a_quarantined_execution_is_sent_again_and_has_its_effect_once(world: World) -> None:
    node = world.node("deadly", concurrency=1, pool="prefork")
    world.worker(node, FEDERATION_MAX_DELIVERIES="2")
    cure = world.folder / "cure"
    identity = world.record("tests.deadly_until", {"cure": str(cure)})
    put_aside(world, identity)
    assert effects(world, identity) == 1
    with world.transactions.begin("cli:tester") as session:
        [entry] = quarantine.listed(session)
    assert (entry.execution_id, entry.task_name, entry.queue) == (identity, "tests.deadly_until", node)
    cure.touch()
    with world.transactions.begin("cli:tester") as session:
        assert quarantine.redrive(session, identity) == identity
    world.until(lambda: world.state(identity).state == "completed", "it succeeds")
    assert world.result(identity) == {"first": False}
    assert effects(world, identity) == 1
    with world.transactions.begin("cli:tester") as session:
        assert quarantine.listed(session) == []
        with pytest.raises(Conflict, match="was sent again already"):
            quarantine.redrive(session, entry.id)


def test_one_that_still_kills_is_quarantined_again(world: World) -> None:
    node = world.node("deadly", concurrency=1, pool="prefork")
    world.worker(node, FEDERATION_MAX_DELIVERIES="2")
    identity = world.record("tests.deadly_until", {"cure": str(world.folder / "never")})
    put_aside(world, identity)
    before = world.state(identity).deliveries
    with world.transactions.begin("cli:tester") as session:
        quarantine.redrive(session, identity)
    world.until(lambda: world.rows("SELECT count(*) FROM quarantine") == [(2,)], "it is put aside again")
    assert world.state(identity).state == "quarantined"
    # As often as the first time: what it failed before counts no more.
    assert world.state(identity).deliveries == 2 * before


def test_what_was_not_ours_is_not_sent_again(world: World) -> None:
    node = world.node("foreign")
    world.worker(node)
    world.publish_raw(node, b"[[], {}, {}]", {"task": "no.such.task", "id": str(uuid.uuid4()), "lang": "py"})
    world.until(lambda: world.rows("SELECT 1 FROM quarantine"), "it is put aside")
    with world.transactions.begin("cli:tester") as session:
        [entry] = quarantine.listed(session)
        with pytest.raises(Conflict, match="was not sent by the federation"):
            quarantine.redrive(session, entry.id)
        with pytest.raises(NotFound, match="quarantined execution"):
            quarantine.redrive(session, uuid.uuid4())


def test_a_worker_that_is_killed_after_a_cancellation_runs_nothing_twice(world: World) -> None:
    """The message comes back from a dead worker; the next one finds that it is not wanted."""
    node = world.node("killed", concurrency=1)
    worker = world.worker(node)
    given = files(world)
    identity = world.record("tests.late_effect", given)
    world.until(Path(given["started"]).exists, "it runs")
    assert cancel(world, identity, aloud=False)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    Path(given["go"]).touch()
    world.worker(node)
    assert_revoked(world, identity)
    assert effects(world, identity) == 0
