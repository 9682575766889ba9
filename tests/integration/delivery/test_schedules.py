"""Schedules of summaries while everything runs: beat follows them without a restart, and no crash loses or doubles a window."""

from itertools import pairwise
from typing import Any

import psycopg

from federation.services import agents, messages, summary_schedules
from federation.services.summary_levels import PARTS

World = Any

SPANS = "SELECT from_position, to_position FROM summaries WHERE conversation_id = 'project-123' ORDER BY from_position"
BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO summaries%%' AND datname = current_database()
"""
# No message is due by its number.
ENVIRONMENT = {"FEDERATION_SUMMARY_CHECK_S": "0.2", "FEDERATION_SUMMARY_WINDOW": "1000"}


def say(world: World, count: int) -> None:
    with world.transactions.begin("ada") as session:
        for number in range(count):
            messages.send(session, f"Finding {number}: the cache of the parser grows with each request.", conversation_id="project-123")


def an_hour_passes(world: World) -> None:
    """Let all that was said and set be older than the last full minute, so that nobody waits for the next one."""
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in ("messages SET created_at = created_at", "summary_schedules SET updated_at = updated_at"):
            connection.execute(f"UPDATE {statement} - interval '1 hour'")


def start(world: World) -> Any:
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
    say(world, 3)
    return world.celery("beat", name="beat", **ENVIRONMENT)


def test_beat_follows_what_is_set_while_it_runs(world: World) -> None:
    world.worker(world.node("summarising", concurrency=1, engines=["minilm"]))
    start(world)
    world.until(lambda: "beat.leads" in world.log("beat"), "a beat leads")
    with world.transactions.begin("ada") as session:
        summary_schedules.put(session, "project-123", cron="* * * * *")
    an_hour_passes(world)
    world.until(lambda: world.rows(SPANS) == [(1, 3)], "what was said before the last time is summarised")
    with world.transactions.begin("ada") as session:
        summary_schedules.put(session, "project-123", messages=4)
    say(world, 4)
    world.until(lambda: world.rows(SPANS) == [(1, 3), (4, 7)], "so many messages are summarised")
    [(creators, asked)] = world.rows("SELECT array_agg(DISTINCT actor), count(*) FROM executions WHERE task_name LIKE '%%.summarise'")
    assert (creators, asked) == (["service:beat"], 2)


def test_windows_are_summarised_once_each_whoever_is_killed_meanwhile(world: World) -> None:
    node = world.node("summarising", concurrency=1, engines=["minilm"])
    worker, beat = world.worker(node), start(world)
    with world.transactions.begin("ada") as session:
        summary_schedules.put(session, "project-123", cron="* * * * *", messages=6)
    for turn in range(3):
        with psycopg.connect(world.owner_url) as connection:
            # Whoever writes the summary waits, and is killed there.
            connection.execute("LOCK TABLE summaries IN SHARE MODE")
            say(world, 1)
            an_hour_passes(world)
            world.until(lambda: world.rows(BLOCKED)[0][0] > 0, "the summary is made, and not written yet")
            if turn != 1:
                worker.kill()
            if turn != 0:
                beat.kill()
            say(world, 2 + turn)
        if turn != 1:
            worker = world.worker(node)
        if turn != 0:
            beat = world.celery("beat", name=f"beat-{turn}", **ENVIRONMENT)
        [(last,)] = world.rows("SELECT max(position) FROM messages")
        an_hour_passes(world)
        world.until(lambda last=last: (spans := world.rows(SPANS)) and spans[-1][1] == last, "all is summarised")
    spans = world.rows(SPANS)
    assert spans[0][0] == 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans)), spans
    assert world.rows("SELECT unsummarised FROM conversations WHERE id = 'project-123'") == [(0,)]
    told = "SELECT payload->>'from_position', payload->>'to_position' FROM events WHERE type = 'conversation.summarised' ORDER BY sequence"
    assert world.rows(told) == [(str(start), str(end)) for start, end in spans]


def test_summaries_are_summarised_once_each_though_the_worker_is_killed_between_two_levels(world: World) -> None:
    node = world.node("summarising", concurrency=1, engines=["minilm"])
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
    say(world, 2 * PARTS)
    with world.transactions.begin("ada") as session:
        summary_schedules.put(session, "project-123", messages=2)
    with psycopg.connect(world.owner_url, autocommit=True) as connection:
        # Who writes a summary of summaries waits, and is killed there: those of messages stand already.
        connection.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER waits BEFORE INSERT ON summaries FOR EACH ROW WHEN (NEW.level > 1) EXECUTE FUNCTION wait()")
        connection.execute("SELECT pg_advisory_lock(42)")
        worker = world.worker(node)
        world.celery("beat", name="beat", **ENVIRONMENT)
        world.until(lambda: world.rows(BLOCKED)[0][0] > 0, "the summary of summaries is made, and not written yet")
        assert world.rows("SELECT level, count(*) FROM summaries GROUP BY level") == [(1, PARTS)]
        worker.kill()
        connection.execute("SELECT pg_advisory_unlock(42)")
    world.worker(node)
    above = "SELECT from_position, to_position, jsonb_array_length(message_ids), text FROM summaries WHERE level = 2"
    [(start, end, sources, told)] = world.until(lambda: world.rows(above), "it is written by whoever comes next")
    assert (start, end) == (1, 2 * PARTS)
    assert 1 <= sources <= 5
    assert all(line.startswith("ada: Finding ") for line in told.splitlines())
    # The next window finds nothing to do above it.
    say(world, 2)
    world.until(lambda: world.rows("SELECT count(*) FROM summaries WHERE level = 1") == [(PARTS + 1,)], "the next window is summarised")
    assert world.rows("SELECT count(*) FROM summaries WHERE level > 1") == [(1,)]
