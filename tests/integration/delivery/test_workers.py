"""Workers as real processes: what runs where, how a node comes and goes, what an operator may say on the command line."""

import signal
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from federation.delivery import node_life
from federation.services import agents, approvals, inboxes, messages, nodes, tasks
from federation.services.approvals import Decision
from tests.integration.world import ROOT

World = Any


def test_execution_runs_on_the_queue_of_its_node_and_nowhere_else(calm: World) -> None:
    world, lead = calm, calm.calm_node
    other = world.worker(world.node("other"))
    ids = [world.record("tests.where", {"n": n}, role="lead") for n in range(6)]
    results = [world.result(identity) for identity in ids]
    assert {result["node"] for result in results} == {lead}
    assert {result["hostname"].partition("@")[0] for result in results} == {lead}
    assert {row[0] for row in world.rows("SELECT node FROM executions WHERE id = ANY(%s)", ids)} == {lead}
    view = world.state(ids[0])
    assert (view.state, view.node, view.deliveries, view.pid) == ("completed", lead, 1, results[0]["pid"])
    streams = [f"execution:{identity}" for identity in ids]
    assert world.rows("SELECT count(*) FROM events WHERE type = 'execution.placed' AND stream = ANY(%s)", streams) == [(6,)]
    world.stop(other)


def test_a_worker_of_taichi_as_it_ships_runs_taichis_work_and_nothing_else(world: World) -> None:
    shipped = {"FEDERATION_WORKERS_DIR": str(ROOT / "workers")}
    for name in ("taichi", "baby"):
        # `celery -A federation worker -Q taichi`, and no other flag.
        world.worker(name, **shipped)
    asked = {world.record("tests.where", {"n": n}, node=name): name for n in range(4) for name in ("taichi", "baby")}
    by_role = {world.record("tests.where", role=role): name for role, name in (("lead", "taichi"), ("analyst", "baby"))}
    ran = {identity: world.result(identity)["hostname"].partition("@")[0] for identity in asked | by_role}
    assert ran == asked | by_role
    # Neither of these machines has the cards that the files name.
    waiting = world.state(world.record("tests.where", min_vram_gib=24))
    assert (waiting.state, waiting.node) == ("unplaced", None)
    assert waiting.waiting_for.startswith("no live node has 1 GPU with 24 GiB")


def test_while_a_task_awaits_approval_its_node_has_its_one_place_for_others(world: World) -> None:
    node = world.node("single", concurrency=1, engines=["minilm"])
    world.worker(node)
    with world.transactions.begin("cli:tester") as session:
        for name, role in (("ada", "lead"), ("bob", "developer")):
            agents.add(session, name, role)
    with world.transactions.begin("bob") as session:
        messages.send(session, "The cache was restarted at noon. Since then no request has failed.", conversation_id="talk", to="ada")
        wanted = {"executor": "node", "task_type": "report", "requirements": {"node": node}, "conversation_id": "talk"}
        parked = tasks.delegate(session, "Report", slug="report", requires_approval=True, **wanted).id
    # Its only place does one after the other meanwhile.
    assert {world.result(world.record("tests.where", {"n": n}))["node"] for n in range(3)} == {node}
    assert world.rows("SELECT status FROM agent_tasks WHERE id = %s", parked) == [("awaiting_approval",)]
    assert world.rows("SELECT FROM executions WHERE agent_task_id = %s", parked) == []
    with world.transactions.begin("ada") as session:
        approvals.decide(session, "report", Decision.APPROVE, conversation_id="talk")
    world.until(lambda: world.rows("SELECT FROM agent_tasks WHERE id = %s AND status = 'completed'", parked), "it is done once it is approved")


def test_a_message_is_its_addressees_alone_and_outlives_postgresql(world: World, postgres: Any) -> None:
    with world.transactions.begin("cli:tester") as session:
        for name in ("ada", "bob", "eve"):
            agents.add(session, name, "lead")
    with world.transactions.begin("ada") as session:
        sent = messages.send(session, "Please review auth-module.py", to="bob", message_type="task")
    postgres.kill()
    postgres.start()

    def read(who: str) -> list[uuid.UUID]:
        with world.transactions.begin(who) as session:
            return [message.message_id for message in inboxes.inbox(session).messages]

    assert {who: read(who) for who in ("bob", "eve")} == {"bob": [sent.message_id], "eve": []}
    with world.transactions.begin("eve") as session:
        assert session.execute(text("SELECT count(*) FROM messages")).scalar_one() == 0


def test_worker_with_no_other_flag_takes_its_node_from_the_file(world: World) -> None:
    card = {"count": 1, "vram_gib": 24, "kind": "RTX"}
    node = world.node("plain", pool="prefork", concurrency=3, tags=["frag"], engines=["no-such-engine"], gpus=card)
    process = world.worker(node)
    [(role, tags, concurrency, hostname, missing, gpus)] = world.rows("SELECT role, tags, concurrency, hostname, missing, gpus FROM nodes")
    assert (role, tags, concurrency, gpus) == ("developer", ["frag"], 3, [])
    assert hostname.startswith(f"{node}@")
    assert missing == ["GPU RTX 24 GiB", "engine no-such-engine"]
    pong = world.app.control.ping([hostname], timeout=60, limit=1)
    assert list(pong[0]) == [hostname]
    pool = world.app.control.inspect([hostname], timeout=60, limit=1).stats()[hostname]["pool"]
    assert (pool["max-concurrency"], len(pool["processes"])) == (3, 3)
    world.stop(process)
    assert process.returncode == 0
    assert world.rows("SELECT left_at IS NOT NULL FROM nodes") == [(True,)]
    told = [kind for (kind,) in world.rows("SELECT type FROM events WHERE type <> 'service.registered' ORDER BY sequence")]
    assert told == ["signer.registered", "node.announced", "node.left"]


def test_explicit_flags_win_over_the_file(world: World) -> None:
    node = world.node("flags", pool="threads", concurrency=3)
    world.worker(node, "-P", "prefork", "-c", "1", "-n", "mine@here")
    assert world.rows("SELECT concurrency, hostname FROM nodes") == [(1, "mine@here")]
    assert "processes" in world.app.control.inspect(["mine@here"], timeout=60, limit=1).stats()["mine@here"]["pool"]


def test_unknown_node_stops_the_start_and_names_the_nearest(world: World) -> None:
    node = world.node("taichi")
    process = world.worker("taichy" + node[6:], wait=False)
    assert process.wait(120) == 1
    assert f"nearest: {node}" in world.log("taichy" + node[6:])


def test_settings_that_are_missing_stop_the_start_with_one_line(world: World) -> None:
    process = world.celery("worker", "-Q", world.node("x"), name="unset", FEDERATION_BROKER_URL="")
    assert process.wait(120) == 1
    assert world.log("unset").strip().splitlines()[-1].startswith("Error: FEDERATION_BROKER_URL is not set")
    assert "Traceback" not in world.log("unset")


def test_celery_status_sees_the_worker(calm: World) -> None:
    world, node = calm, calm.calm_node
    # It gives the nodes a second to answer; where the worker stood still for that, it is asked again.
    world.until(lambda: world.celery("status", name="status").wait(120) == 0, "a worker answers")
    assert f"{node}@" in world.log("status")


def test_node_with_a_long_execution_does_not_look_dead(calm: World) -> None:
    world, node = calm, calm.calm_node
    go, started = world.folder / "go", world.folder / "started"
    identity = world.record("tests.effect", {"started": str(started), "go": str(go)})
    world.until(started.exists, "the execution runs")
    assert world.state(identity).state == "running"
    [(seen,)] = world.rows("SELECT last_seen_at FROM nodes WHERE name = %s", node)
    later = "SELECT 1 FROM nodes WHERE name = %s AND last_seen_at > %s AND (load->>'running')::int = 1"
    world.until(lambda: world.rows(later, node, seen), "a sign of life while it runs")
    with world.transactions.begin("cli:tester") as session:
        assert nodes.load(session, node) == nodes.Load(running=1, queued=0)
        assert [view.outstanding for view in nodes.views(session, stale_s=6) if view.name == node] == [1]
    go.touch()
    assert world.result(identity)["first"] is True
    with world.transactions.begin("cli:tester") as session:
        assert nodes.load(session, node) == nodes.Load(running=0, queued=0)


def test_two_workers_of_one_name_are_told_apart(world: World) -> None:
    node = world.node("twin")
    first = world.worker(node)
    assert "takes_over" not in world.log(node)
    second = world.worker(node)
    world.until(lambda: f"takes_over: process {first.pid} on" in world.log(node), "the second says that there is another")
    world.until(lambda: "taken_over" in world.log(node), "the first says that it was replaced")
    world.stop(second)
    world.until(lambda: world.alive(node, first.pid), "the first is the node again when the second has left")
    first.kill()
    first.wait()
    world.worker(node)
    # The first may have said the same of the second, when that was leaving.
    assert world.log(node).count(f"takes_over: process {first.pid} on") == 1, "a worker that was killed is no rival"


def test_a_worker_that_is_killed_and_comes_back_before_anybody_looks_is_told_lost(world: World) -> None:
    node = world.node("brief")
    killed = world.worker(node)
    [(former,)] = world.rows("SELECT incarnation FROM nodes")
    killed.kill()
    killed.wait()
    world.stop(world.worker(node))
    told = world.rows("SELECT type, actor, payload->>'incarnation' FROM events WHERE stream = %s ORDER BY position", f"node:{node}")
    [(latter,)] = world.rows("SELECT incarnation FROM nodes")
    kinds, actor = ("node.announced", "node.lost", "node.announced", "node.left"), f"node:{node}"
    # Who leaves in good order and comes back was never lost.
    assert told == [(kind, actor, str(which)) for kind, which in zip(kinds, (former, former, latter, latter), strict=True)]


def test_node_that_leaves_says_so_before_its_thread_would_look_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_life, "LOOK_S", 3600)
    announcement = nodes.Announcement("leaver", "lead", (), (), (), (), (), 1, "host", 1, uuid.uuid4(), simulated=False)
    register = world.app.amqp.signer.register
    life = node_life.NodeLife(announcement, world.transactions, publisher=world.publisher, register=register, stale_s=6)
    life.start()
    world.until(lambda: world.rows("SELECT 1 FROM nodes WHERE name = 'leaver'"), "it announces itself")
    life.leave()
    life.join()
    assert world.rows("SELECT left_at IS NOT NULL FROM nodes WHERE name = 'leaver'") == [(True,)]


def test_a_cold_shutdown_of_a_pool_of_threads_puts_nothing_aside_and_loses_nothing(world: World) -> None:
    node = world.node("cold", concurrency=1, pool="threads")
    leaving = world.worker(node)
    started, go = world.folder / "started", world.folder / "go"
    asked = [world.record("tests.effect", {"started": str(started), "go": str(go)}, node=node) for _ in range(8)]
    world.until(started.exists, "one runs")
    leaving.send_signal(signal.SIGQUIT)
    # A thread cannot be stopped: the process ends with what it runs.
    go.touch()
    world.until(lambda: leaving.poll() is not None, "it ends")
    assert "NotImplementedError" not in world.log(node)
    world.worker(node)
    for identity in asked:
        world.result(identity)
    assert world.rows("SELECT count(*), count(DISTINCT execution_id) FROM execution_effects") == [(8, 8)]
    assert world.rows("SELECT count(*) FROM quarantine") == [(0,)]
