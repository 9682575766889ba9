"""Beat as a real process: heartbeats, the sweep of the outbox, one beat of two, and servers that go away."""

import signal
import time
import uuid
from datetime import UTC
from itertools import pairwise
from textwrap import dedent
from typing import Any

import psycopg

from federation.delivery import leadership, relay
from federation.services import agents, consensus, messages, nodes, task_claims, tasks
from federation.services.electorates import Asked
from federation.services.nodes import Announcement
from federation.store import outbox

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


def test_beat_ends_what_is_over_its_time_and_tells_the_lead_of_what_nobody_takes(world: World) -> None:
    with world.transactions.begin("test:setup") as session:
        agents.add(session, "lea", "lead")
    with world.transactions.begin("lea") as session:
        tasks.delegate(session, "In time", slug="late", timeout_s=1)
        tasks.delegate(session, "By anybody", slug="left")
        tasks.delegate(session, "By whoever comes", slug="done", timeout_s=3600)
        token = task_claims.claim(session, "done", description="", ttl_s=3600).fencing_token
        task_claims.complete(session, "done", fencing_token=token, result={})
    world.celery("beat", name="beat", FEDERATION_ESCALATE_S="2")
    world.until(lambda: world.rows("SELECT status FROM agent_tasks WHERE slug = 'late'") == [("expired",)], "beat ends it")
    world.until(lambda: world.rows("SELECT 1 FROM agent_tasks WHERE slug = 'left' AND escalated_at IS NOT NULL"), "the lead is told")
    [(told,)] = world.rows("SELECT content FROM messages WHERE content LIKE %s", "Nobody has taken task left: %")
    assert "nobody has claimed it. Take it with federation_claim_task('left')" in told
    assert world.rows("SELECT status, escalated_at FROM agent_tasks WHERE slug = 'done'") == [("completed", None)]
    [(actor,)] = world.rows("SELECT actor FROM events WHERE type = 'task.expired'")
    assert actor == "service:beat"


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
    changes = world.rows("SELECT payload->>'action' FROM events WHERE type = 'node.state_changed' ORDER BY sequence")
    assert [row[0] for row in changes][-2:] == ["EXECUTING", "IDLE"]


def test_results_whose_time_is_over_are_cleaned_up_as_soon_as_a_beat_acts_and_what_they_said_is_kept(world: World) -> None:
    node = world.node("tidy", concurrency=1)
    world.worker(node)
    over, kept = (world.record("tests.where") for _ in range(2))
    for identity in (over, kept):
        assert world.result(identity)["node"] == node
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("UPDATE celery_results SET expires_at = clock_timestamp() - interval '1 second' WHERE task_id = %s", [str(over)])
        # As if a delivery before the last one had failed, and beat had noted that.
        connection.execute("UPDATE executions SET outcome = 'FAILURE', ended_at = clock_timestamp() WHERE id = %s", [over])
    world.celery("beat", name="beat")
    stored = "SELECT 1 FROM celery_results WHERE task_id = %s"
    world.until(lambda: not world.rows(stored, str(over)), "beat cleans up")
    assert world.rows("SELECT outcome FROM executions WHERE id = %s", over) == [("SUCCESS",)]
    assert world.rows(stored, str(kept)) == [(1,)]


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


def test_work_with_a_time_is_unplaced_until_then_and_goes_to_a_node_that_lives_then(world: World) -> None:
    world.celery("beat", name="beat")
    world.until(lambda: "beat.leads" in world.log("beat"), "a beat leads")
    early = world.node("early", concurrency=1)
    gone = world.worker(early)
    [(due,)] = world.rows("SELECT clock_timestamp() + interval '1 hour'")
    with world.transactions.begin("tester") as session:
        identity = outbox.record(session, "tests.where", {}, requirements={"role": "developer"}, due_at=due)
    first = world.state(identity)
    assert (first.state, first.node) == ("unplaced", None)
    assert first.waiting_for == f"its time, {due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    world.stop(gone)
    later = world.node("later", concurrency=1)
    world.worker(later)
    assert world.state(identity).node is None
    # Its time comes when the one node has left and the other is there, however long either takes.
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("UPDATE executions SET due_at = clock_timestamp() + interval '1 second' WHERE id = %s", [identity])
    assert world.result(identity)["node"] == later
    # The sender notes it after the message has gone, so the result may be there first.
    [(sent_after_it_was_due,)] = world.until(
        lambda: world.rows("SELECT sent_at >= due_at FROM executions WHERE id = %s AND sent_at IS NOT NULL", identity), "the sending is noted"
    )
    assert sent_after_it_was_due


def test_when_the_leading_beat_is_killed_the_other_acts_within_two_periods_and_nothing_twice(world: World) -> None:
    period_s, turns, window = 15.0, 2, 4
    world.worker(world.node("summarising", concurrency=2, engines=["minilm"]))
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
        # Nobody works there but this test, which sees each tick.
        nodes.announce(session, Announcement("ticking", "lead", (), (), (), (), (), 1, "host", 1, uuid.uuid4(), simulated=False))
    environment = {"FEDERATION_HEARTBEAT_S": str(period_s), "FEDERATION_NODE_STALE_S": "3600", "FEDERATION_SUMMARY_CHECK_S": "0.5"}
    beats: dict[str, Any] = {}

    def start() -> None:
        name = f"beat-{len(beats)}"
        beats[name] = world.celery("beat", name=name, **environment, FEDERATION_SUMMARY_WINDOW=str(window))

    def leader() -> str:
        # Each is killed while it leads, so that whoever says so and lives is the one.
        leading = [name for name, process in beats.items() if process.poll() is None and "beat.leads" in world.log(name)]
        assert len(leading) <= 1, "two beats act at once"
        return leading[0] if leading else ""

    start()
    start()
    began = time.monotonic()
    with world.app.connection_for_read() as connection, connection.SimpleQueue("ticking", no_ack=True) as ticking:
        ticks, waited_s = [_name(ticking.get(timeout=60))], []
        for turn in range(turns):
            leading = world.until(leader, "a beat leads")
            with world.transactions.begin("ada") as session:
                for number in range(window):
                    messages.send(session, f"Finding {number} of turn {turn}: the cache of the parser grows with each request.")
            beats[leading].kill()
            killed_at = time.monotonic()
            ticks += _drained(ticking)
            ticks.append(_name(ticking.get(timeout=60)))
            waited_s.append(time.monotonic() - killed_at)
            start()
        world.until(leader, "the last beat leads")
        ticks += _drained(ticking)
        periods = (time.monotonic() - began) / period_s
    assert max(waited_s) < 2 * period_s, waited_s
    # A tick has the name of its period; and of so many periods each has one at most.
    assert len(set(ticks)) == len(ticks) <= periods + 1, (ticks, periods)
    [(last,)] = world.rows("SELECT max(position) FROM messages")
    covered = "SELECT max(to_position) FROM summaries"
    world.until(lambda: (last - (world.rows(covered)[0][0] or 0)) < window, "all windows have their summaries")
    spans = world.rows("SELECT from_position, to_position FROM summaries ORDER BY from_position")
    # From the first message on, each is in one summary: none in two, none in none.
    assert spans[0][0] == 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans)), spans
    asked = world.rows("SELECT id FROM executions WHERE task_name = 'federation.tasks.summaries.summarise'")
    assert len(asked) == len(spans)


def _name(tick: Any) -> str:
    name: str = tick.headers["id"]
    return name


def _drained(queue: Any) -> list[str]:
    """Take what is there now; return the names."""
    taken = []
    while True:
        try:
            taken.append(_name(queue.get(timeout=0.2)))
        except queue.Empty:
            return taken


def test_a_vote_whose_time_is_over_is_ended_once_by_the_beat_that_acts(world: World) -> None:
    beats = [world.celery("beat", name=name) for name in ("beat", "standby")]
    world.until(lambda: any("beat.leads" in world.log(name) for name in ("beat", "standby")), "a beat leads")
    with world.transactions.begin("test:setup") as session:
        for name in ("ada", "bob"):
            agents.add(session, name, "lead")
    with world.transactions.begin("bob") as session:
        tasks.delegate(session, "Restart the cache", slug="gate", requires_approval=True)
    with world.transactions.begin("ada") as session:
        vote = consensus.request(session, Asked(question="Restart?", task="gate", timeout_s=1))
    ended = "SELECT state, outcome ->> 'reason', updated_by FROM consensus WHERE applied_at IS NOT NULL"
    world.until(lambda: world.rows(ended) == [("undecided", "no_quorum", "service:beat")], "beat ends the vote")
    assert world.rows("SELECT status, decided_by FROM agent_tasks") == [("cancelled", f"consensus:{vote.id}")]
    told = "SELECT type, actor FROM events WHERE type LIKE 'consensus.%%' OR type = 'task.rejected' ORDER BY sequence"
    assert world.rows(told) == [
        ("consensus.requested", "ada"),
        ("consensus.closed", "service:beat"),
        ("task.rejected", "service:beat"),
        ("consensus.applied", "service:beat"),
    ]
    for beat in beats:
        world.stop(beat)


def test_a_vote_that_cannot_be_counted_holds_up_no_other(world: World) -> None:
    with world.transactions.begin("test:setup") as session:
        agents.add(session, "ada", "lead")
    with world.transactions.begin("ada") as session:
        first, second = (consensus.request(session, Asked(question="Restart?", timeout_s=1)).id for _ in range(2))
    # By hand, or by a node that is in somebody else's.
    world.rows(
        "UPDATE consensus SET proposal = proposal || '{\"options\": 5}', revision = 2, updated_by = 'node:evil' WHERE id = %s RETURNING id", first
    )
    beat = world.celery("beat", name="beat")
    world.until(lambda: world.rows("SELECT state FROM consensus WHERE id = %s", second) == [("undecided",)], "beat ends the other vote")
    world.until(lambda: "job_failed" in world.log("beat"), "the other one is told of")
    world.stop(beat)


def test_a_beat_that_is_told_to_end_ends_though_an_error_takes_the_place_of_that(world: World) -> None:
    (world.folder / "interrupted.py").write_text(
        dedent("""
        import os, signal, psycopg
        from federation.delivery.beat import FederationScheduler

        class Interrupted(FederationScheduler):
            def _note_outcomes(self):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                finally:
                    raise psycopg.ProgrammingError("can't change 'autocommit' now")
    """)
    )
    beat = world.celery("beat", "-S", "interrupted:Interrupted", name="beat")
    world.until(lambda: beat.poll() is not None, "beat ends")
    assert beat.returncode == 0
    assert "beat.deferred" in world.log("beat")


def test_tasks_that_cannot_be_ended_keep_no_other_from_its_end(world: World) -> None:
    with world.transactions.begin("test:setup") as session:
        agents.add(session, "lea", "lead")
    with world.transactions.begin("lea") as session:
        late = tasks.delegate(session, "In time", slug="late", timeout_s=1)
    with psycopg.connect(world.owner_url) as connection:
        # Who has it is nobody whom one could tell: as a node's login writes it.
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute(
            "INSERT INTO agent_tasks (conversation_id, description, task_type, priority, executor, requirements, created_by, trace_id, status, "
            "assigned_to, timeout_s, expires_at) SELECT 'commons', 'x', 'investigate', 5, 'agent', '{}', 'lea', 't', 'assigned', 'nobody', 1, "
            "clock_timestamp() - interval '1 hour' FROM generate_series(1, 200)"
        )
    world.celery("beat", name="beat", FEDERATION_ESCALATE_S="3600")
    world.until(lambda: world.rows("SELECT status FROM agent_tasks WHERE id = %s", late.id) == [("expired",)], "beat ends it")
    world.until(lambda: "beat.not_done" in world.log("beat"), "those that did not end are told of")


def test_what_a_nodes_login_holds_open_keeps_neither_beat_nor_anybody_else_waiting(world: World) -> None:
    with world.transactions.begin("test:setup") as session:
        agents.add(session, "ada", "developer")
    login = world.login(world.node("evil"))
    ended = world.record("tests.where")
    append = "SELECT federation_append(%s, NULL, 'node.left', 'node:evil', %s, NULL, '{}', 't')"
    hostile = psycopg.connect(login["FEDERATION_DATABASE_SERVICE_URL"])
    hostile.execute("SELECT set_config('federation.actor', 'node:evil', false)")
    # Where beat tells that it noted an outcome, and where all who say something to everybody take their place.
    hostile.execute(append, ["executions", None])
    hostile.execute(append, ["messages:commons", "commons"])
    with psycopg.connect(world.owner_url) as root:
        root.execute("INSERT INTO celery_results (task_id, state) VALUES (%s, 'SUCCESS')", [str(ended)])
    beat = world.celery("beat", name="beat")
    with world.transactions.begin("ada") as session:
        messages.send(session, "to all")
    world.until(lambda: world.rows("SELECT outcome FROM executions WHERE id = %s", ended) == [("SUCCESS",)], "beat goes on")
    world.until(lambda: "node.hinders" in world.log("beat"), "beat tells who was in the way")
    world.stop(beat)
    hostile.close()
    # And what keeps another beat away.
    with psycopg.connect(login["FEDERATION_DATABASE_SERVICE_URL"], autocommit=True) as hostile:
        for lock in (leadership.LOCK, relay.LOCK):
            world.until(lambda lock=lock: hostile.execute("SELECT pg_try_advisory_lock(%s)", [lock]).fetchone() == (True,), "the node has the lock")
        world.celery("beat", name="another")
        world.until(lambda: "beat.leads" in world.log("another") and "relay.leads" in world.log("another"), "another beat acts")
