"""Work that waits on a node that is gone, or drowns beside an idle one, is done elsewhere; each effect once, nothing lost."""

import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from federation.broker.moving import waiting_messages
from federation.delivery.rebalance import Rebalancer
from federation.services import agents, conversations, nodes

World = Any
# The conversation of the effects.
SAID = "effects"


def rebalance(world: World, *, stale_s: float) -> int:
    with world.transactions.begin("cli:tester") as session:
        known = nodes.views(session, stale_s=stale_s)
    return Rebalancer(world.app, world.transactions, stale_s=stale_s).rebalance(known)


@pytest.fixture(autouse=True)
def effects_are_said(world: World) -> None:
    with world.transactions.begin("test:hands") as session:
        agents.add(session, "tester", "lead")
    with world.transactions.begin("tester") as session:
        conversations.open_for(session, SAID, [])


def ask(world: World, **requirements: Any) -> uuid.UUID:
    """Record an execution that says its effect, and then waits."""
    kwargs = {"started": str(world.folder / "started"), "go": str(world.folder / "go"), "conversation_id": SAID}
    recorded: uuid.UUID = world.record("tests.effect", kwargs, **requirements)
    return recorded


def effects(world: World) -> list[tuple[str, int]]:
    """How often each execution said that it was done: messages, of which nothing but the program keeps a second away."""
    rows: list[tuple[str, int]] = world.rows(
        "SELECT data->>'execution', count(*) FROM messages WHERE conversation_id = %s GROUP BY 1 ORDER BY 1", SAID
    )
    return rows


def moves(world: World, identity: uuid.UUID) -> list[dict[str, Any]]:
    return [
        row[0] for row in world.rows("SELECT payload - 'version' FROM events WHERE stream = %s AND type = 'execution.moved'", f"execution:{identity}")
    ]


def waiting(world: World, node: str) -> set[uuid.UUID]:
    """The ids of the messages in a node's queue: also the heartbeats that beat sends it while it seems alive, which expire."""
    with world.app.connection_for_write() as connection, waiting_messages(connection, node, limit=500) as found:
        return {uuid.UUID(str(message.headers["id"])) for message in found}


@pytest.mark.timeout(500)
def test_two_hundred_tasks_of_a_killed_node_finish_elsewhere_each_once(world: World) -> None:
    first = world.node("first")
    worker = world.worker(first, FEDERATION_NODE_STALE_S="3")
    started, go = world.folder / "started", world.folder / "go"
    asked = [ask(world, role="developer") for _ in range(200)]
    world.until(started.exists, "the first node runs one")
    second = world.node("second")
    world.worker(second, FEDERATION_NODE_STALE_S="3")
    worker.kill()
    worker.wait()
    go.touch()
    # Nobody summarises what is said: that wants a model.
    world.celery("beat", name="beat", FEDERATION_NODE_STALE_S="3", FEDERATION_SUMMARY_WINDOW="1000000")
    world.until(lambda: len(effects(world)) == 200, "all are done", within_s=240)
    for identity in asked:
        assert world.result(identity)
    assert effects(world) == [(identity, 1) for identity in sorted(map(str, asked))]
    assert {world.state(identity).node for identity in asked} == {second}
    assert waiting(world, first) & set(asked) == set()
    # What ran when the node was killed is marked as redelivered, wherever it comes again.
    marked = "SELECT count(*) FROM events WHERE type = 'execution.delivered' AND payload->'redelivered' = 'true' AND (payload->>'number')::int > 1"
    assert world.rows(marked)[0][0] >= 1


def test_work_that_nobody_else_can_do_is_unplaced_until_somebody_can(world: World) -> None:
    only = world.node("only", role="lead")
    worker = world.worker(only)
    started, go = world.folder / "started", world.folder / "go"
    asked = [ask(world, role="lead") for _ in range(5)]
    named = ask(world, node=only)
    world.until(started.exists, "the node runs one")
    worker.kill()
    worker.wait()
    world.until(lambda: rebalance(world, stale_s=6) + len(moves(world, asked[0])) > 0, "the node is stale, and its work is taken from it")
    world.until(lambda: rebalance(world, stale_s=6) == 0, "nothing is left to take")
    for identity in asked:
        seen = world.state(identity)
        assert (seen.state, seen.node) == ("unplaced", None)
        assert "no live node has role=lead" in str(seen.waiting_for)
    # What was asked of the node by name waits for it.
    assert (world.state(named).node, world.state(named).state) == (only, "queued")
    world.until(lambda: world.size(world.destination(only)).waiting == 1, "nothing else is left in its queue")
    go.touch()
    other = world.node("other", role="lead")
    world.worker(other)
    for identity in asked:
        world.result(identity)
    assert {world.state(identity).node for identity in asked} == {other}
    world.worker(only)
    world.result(named)
    assert {count for _, count in effects(world)} == {1}
    assert len(effects(world)) == 6


def test_a_drowning_node_gives_to_an_idle_one_what_that_has_places_for(world: World) -> None:
    full = world.node("full", concurrency=2)
    world.worker(full)
    started, go = world.folder / "started", world.folder / "go"
    asked = [ask(world, role="developer") for _ in range(12)]
    world.until(started.exists, "the node runs one")
    assert rebalance(world, stale_s=60) == 0
    idle = world.node("idle", concurrency=3)
    world.worker(idle)
    assert rebalance(world, stale_s=60) == 3
    assert rebalance(world, stale_s=60) == 0
    go.touch()
    for identity in asked:
        world.result(identity)
    assert sorted(world.state(identity).node for identity in asked).count(idle) == 3
    assert {count for _, count in effects(world)} == {1}


def test_nodes_that_drown_swap_nothing_beside_an_idle_one_that_cannot_do_it(world: World) -> None:
    drowning = [world.node(name, concurrency=1) for name in ("one", "two")]
    idle = world.node("idle", role="lead", concurrency=4)
    for node in (*drowning, idle):
        world.worker(node)
    asked = [ask(world, role="developer") for _ in range(10)]
    world.until((world.folder / "started").exists, "a node runs one")
    assert {world.state(identity).node for identity in asked} == set(drowning)
    assert rebalance(world, stale_s=60) == 0
    (world.folder / "go").touch()
    for identity in asked:
        world.result(identity)
    assert [moves(world, identity) for identity in asked] == [[]] * 10


def test_two_rebalancers_at_once_do_no_harm(world: World) -> None:
    gone = world.node("gone", role="lead")
    worker = world.worker(gone)
    started, go = world.folder / "started", world.folder / "go"
    asked = [ask(world, role="lead") for _ in range(60)]
    world.until(started.exists, "the node runs one")
    heir = world.node("heir", role="lead")
    world.worker(heir)
    worker.kill()
    worker.wait()
    # By hand, so that the heir may stand still for some seconds and is not taken for dead as well.
    with world.transactions.begin("test:hand") as session:
        session.execute(text("UPDATE nodes SET last_seen_at = last_seen_at - interval '1 hour' WHERE name = :name"), {"name": gone})
    go.touch()
    moved: list[int] = []
    rivals = [threading.Thread(target=lambda: moved.append(rebalance(world, stale_s=600))) for _ in range(2)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    world.until(lambda: moved.append(rebalance(world, stale_s=600)) or len(effects(world)) == 60, "all are done")
    for identity in asked:
        world.result(identity)
    assert effects(world) == [(identity, 1) for identity in sorted(map(str, asked))]
    assert sum(moved) == 60


@pytest.mark.parametrize("pool", [pytest.param("threads", marks=pytest.mark.long), "prefork"])
def test_a_node_that_is_told_to_stop_finishes_what_runs_and_others_do_the_rest(world: World, pool: str) -> None:
    leaving = world.node("leaving", concurrency=1, pool=pool)
    worker = world.worker(leaving)
    started, go = world.folder / "started", world.folder / "go"
    running = ask(world, role="developer")
    world.until(started.exists, "it runs")
    waiting = [world.record("tests.where", {"number": number}, role="developer") for number in range(10)]
    staying = world.node("staying", concurrency=1, pool=pool)
    world.worker(staying)
    world.celery("beat", name="beat")
    worker.terminate()
    assert [world.result(identity)["node"] for identity in waiting] == [staying] * 10
    assert worker.poll() is None, "it did not wait for what it runs"
    go.touch()
    assert world.result(running)["first"] is True
    worker.wait(120)
    assert worker.returncode == 0
    assert world.rows("SELECT count(*) FROM execution_deliveries WHERE execution_id = %s", running) == [(1,)]
    assert world.rows("SELECT count(*) FROM events WHERE type = 'node.left' AND stream = %s", f"node:{leaving}") == [(1,)]


@pytest.mark.parametrize("named", [True, False])
def test_what_waits_on_a_node_that_comes_back_without_what_it_wants_waits_for_it(world: World, named: bool) -> None:
    """Also what was in the middle; a model that is taken out of a node's file is one such thing."""
    node = world.node("poorer", concurrency=1, tags=["licensed"])
    worker = world.worker(node)
    paths = [(world.folder / f"started-{number}", world.folder / f"go-{number}") for number in range(3)]
    needs = {"tags": ["licensed"]} | ({"node": node} if named else {})
    sent = [world.record("tests.effect", {"started": str(started), "go": str(go)}, **needs) for started, go in paths]
    world.until(paths[0][0].exists, "the first one runs")
    world.until(lambda: all(world.state(one).node == node for one in sent), "all were sent")
    worker.kill()
    worker.wait()
    file = world.workers_dir / f"{node}.toml"
    with_it = file.read_text()
    file.write_text(with_it.replace("licensed", "unlicensed"))
    worker = world.worker(node)
    world.until(lambda: all(world.state(one).state == "unplaced" for one in sent), lambda: str([world.state(one) for one in sent]))
    assert all("licensed" in str(world.state(one).waiting_for) for one in sent)
    assert world.rows("SELECT reason FROM quarantine WHERE queue = %s", node) == []
    moved = "SELECT DISTINCT stream, payload ->> 'from' FROM events WHERE type = 'execution.moved'"
    assert {(f"execution:{one}", node) for one in sent} <= set(world.rows(moved))
    world.stop(worker)
    file.write_text(with_it)
    world.worker(node)
    for _, go in paths:
        go.touch()
    for one in sent:
        assert world.result(one)["first"] is (one != sent[0])
