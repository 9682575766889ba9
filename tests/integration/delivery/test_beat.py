"""Beat as a real process: heartbeats, the sweep of the outbox, one beat of two, and servers that go away."""

import signal
from typing import Any

World = Any


def test_beat_refreshes_the_picture_and_sweeps_while_another_beat_stands_by(world: World, activemq: Any, postgres: Any) -> None:
    node = world.node("watched", concurrency=1)
    worker = world.worker(node)
    first = world.celery("beat", name="beat")
    world.until(lambda: "beat.leads" in world.log("beat"), "a beat leads")
    second = world.celery("beat", name="standby")
    state = "SELECT action, summary, updated_by FROM cop_states WHERE kind = 'node' AND subject = %s"
    world.until(lambda: world.rows(state, node) == [("IDLE", "0 running, 0 queued", f"node:{node}")], "a heartbeat writes the node's state")

    started, go = world.folder / "started", world.folder / "go"
    activemq.kill()
    identity = world.record("tests.effect", {"started": str(started), "go": str(go)})
    world.until(lambda: "beat.deferred" in world.log("beat"), "beat notices the dead broker")
    activemq.start()
    world.until(started.exists, "beat's sweep sends what was recorded")
    go.touch()
    world.result(identity)
    world.until(lambda: world.rows("SELECT 1 FROM executions WHERE id = %s AND outcome = 'SUCCESS'", identity), "its end is noted")
    [(before,)] = world.rows("SELECT updated_at FROM cop_states")
    world.until(lambda: world.rows("SELECT 1 FROM cop_states WHERE updated_at > %s", before), "heartbeats go on")
    assert "beat.leads" not in world.log("standby")
    assert not list(world.folder.glob("celerybeat*"))
    first.kill()
    world.until(lambda: "beat.leads" in world.log("standby"), "the other beat takes over")
    postgres.kill()
    world.until(lambda: "beat.deferred" in world.log("standby"), "beat notices the dead database")
    postgres.start()
    [(before,)] = world.rows("SELECT clock_timestamp()")
    world.until(lambda: world.rows("SELECT 1 FROM cop_states WHERE updated_at > %s", before), "beat leads again and heartbeats go on")
    world.stop(second)
    world.stop(worker)
    assert second.returncode == 0


def test_heartbeat_tells_what_a_node_is_doing(world: World) -> None:
    node = world.node("working", concurrency=2)
    world.worker(node)
    world.celery("beat", name="beat")
    started, go = world.folder / "started", world.folder / "go"
    identity = world.record("tests.effect", {"started": str(started), "go": str(go)})
    busy = ("EXECUTING", "1 running, 0 queued")
    world.until(lambda: world.rows("SELECT action, summary FROM cop_states WHERE subject = %s", node) == [busy], "the node is seen at work")
    go.touch()
    world.result(identity)
    world.until(lambda: world.rows("SELECT action FROM cop_states WHERE subject = %s", node) == [("IDLE",)], "the node is seen idle")
    changes = world.rows("SELECT payload->>'action' FROM events WHERE type = 'node.state_changed' ORDER BY created_at")
    assert [row[0] for row in changes][-2:] == ["EXECUTING", "IDLE"]


def test_a_node_that_falls_silent_is_told_lost_and_then_returned_once_each(world: World) -> None:
    node = world.node("silent", concurrency=1)
    worker = world.worker(node)
    world.celery("beat", name="beat", FEDERATION_NODE_STALE_S="3")
    lost, returned = ("node.lost", "service:beat"), ("node.returned", f"node:{node}")

    def story_until(last: tuple[str, str], what: str) -> list[tuple[str, str]]:
        told = "SELECT type, actor FROM events WHERE stream = %s AND type <> 'node.state_changed' ORDER BY position"
        return world.until(lambda: rows if (rows := world.rows(told, f"node:{node}"))[-1] == last else None, what)

    worker.send_signal(signal.SIGSTOP)
    story_until(lost, "beat notices the silence")
    assert world.rows("SELECT lost_at IS NOT NULL FROM nodes") == [(True,)]
    worker.send_signal(signal.SIGCONT)
    announced, *rest = story_until(returned, "the worker says that it is back")
    assert announced == ("node.announced", f"node:{node}")
    # On a busy machine it may have been silent more than once.
    assert rest == [lost, returned] * (len(rest) // 2)
