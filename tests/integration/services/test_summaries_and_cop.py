"""Each window of a conversation is summarised once; the common operating picture shows who does what, and who is silent."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine, TextClause, text

from federation.errors import InvalidInput, NotFound
from federation.services import cop, messages, summaries
from federation.store.models.cop import SubjectKind


def say(transactions, count: int) -> None:
    with transactions.begin("ada") as session:
        for number in range(count):
            messages.send(session, f"message {number}", conversation_id="project-123")


def due(transactions) -> list:
    with transactions.begin("service:beat") as session:
        return summaries.request_due(session, window=4)


def unsummarised(transactions) -> int:
    with transactions.begin("test:hand") as session:
        return session.execute(text("select unsummarised from conversations where id = 'project-123'")).scalar_one()


def failed(transactions, execution_id, ago: str) -> None:
    """Let an execution have failed so long ago."""
    statement = "insert into celery_results (task_id, state, date_done) values (:id, 'FAILURE', clock_timestamp() - cast(:ago as interval))"
    with transactions.begin("test:hand") as session:
        session.execute(text(statement), {"id": str(execution_id), "ago": ago})


def left(transactions, actor: str, *, upto: int) -> summaries.Window:
    """Return what somebody reads who is about to summarise."""
    with transactions.begin(actor) as session:
        window = summaries.rest(session, "project-123", upto=upto)
    assert window is not None
    return window


def written(transactions, actor: str, window: summaries.Window) -> bool:
    with transactions.begin(actor) as session:
        return summaries.record(session, row(window.start, window.end))


def blocked(transactions) -> None:
    """Return as soon as some transaction waits for another one."""
    waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
    deadline = time.monotonic() + 90
    # Each role sees only its own wait.
    while not any(_asked(engine, waiting) for engine in (transactions.engine, transactions.service)):
        assert time.monotonic() < deadline, "nobody waits"


def _asked(engine: Engine, query: TextClause) -> int:
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def row(start: int, end: int) -> dict:
    return {
        "conversation_id": "project-123",
        "from_position": start,
        "to_position": end,
        "text": "t",
        "method": "extractive",
        "model": "m",
        "model_digest": "d",
        "message_ids": [],
    }


def test_a_window_is_due_once_it_is_full_and_until_it_is_summarised(transactions, publisher) -> None:
    say(transactions, 3)
    assert due(transactions) == []
    say(transactions, 3)
    first = due(transactions)
    assert len(first) == 1
    assert due(transactions) == [], "the same window is the same execution"
    assert publisher.published == first
    with transactions.begin("service:beat") as session:
        assert summaries.record(session, row(1, 4))
        assert not summaries.record(session, row(1, 4)), "a second delivery changes nothing"
    assert due(transactions) == []
    assert unsummarised(transactions) == 2


def test_a_request_summarises_what_came_since(transactions) -> None:
    say(transactions, 6)
    with transactions.begin("service:beat") as session:
        summaries.record(session, row(1, 4))
    with transactions.begin("ada") as session:
        asked = summaries.request(session, "project-123")
        assert asked is not None
        assert asked.upto == 6
        window = summaries.rest(session, "project-123", upto=asked.upto)
        assert window is not None
        assert (window.start, window.end, [said.content for said in window.messages]) == (5, 6, ["message 4", "message 5"])
        summaries.record(session, row(5, 6))
    with transactions.begin("ada") as session:
        assert summaries.request(session, "project-123") is None, "nothing was said since"
        assert summaries.rest(session, "project-123", upto=6) is None
    with pytest.raises(NotFound), transactions.begin("eve") as session:
        summaries.read(session, "project-123")


def test_private_messages_neither_count_nor_appear_in_a_summary(transactions) -> None:
    with transactions.begin("ada") as session:
        for number in range(5):
            messages.send(session, f"for bob alone {number}", conversation_id="project-123", to="bob")
        messages.send(session, "for all", conversation_id="project-123")
        messages.send(session, "for bob alone, last", conversation_id="project-123", to="bob")
    assert due(transactions) == []
    assert unsummarised(transactions) == 1
    with transactions.begin("ada") as session:
        asked = summaries.request(session, "project-123")
        assert asked is not None
        assert asked.upto == 6, "what comes behind the last message to all belongs to no window"
        window = summaries.rest(session, "project-123", upto=6)
        assert window is not None
        assert [said.content for said in window.messages] == ["for all"]
        summaries.record(session, row(1, 6))
        assert summaries.request(session, "project-123") is None
    assert unsummarised(transactions) == 0


def test_a_conversation_of_two_is_summarised_for_these_two(transactions) -> None:
    with transactions.begin("ada") as session:
        for number in range(4):
            messages.send(session, f"between us {number}", to="bob")
    assert len(due(transactions)) == 1
    with transactions.begin("bob") as session:
        assert summaries.request(session, "direct:ada:bob") is not None
    with pytest.raises(NotFound), transactions.begin("eve") as session:
        summaries.request(session, "direct:ada:bob")


def test_windows_that_cross_cover_all_without_overlap_or_gap(transactions) -> None:
    say(transactions, 6)
    # Beat's window ends at 4, a caller's at 6; both have read what is left before either has written.
    beat, caller = left(transactions, "service:beat", upto=4), left(transactions, "ada", upto=6)
    assert (beat.start, caller.start) == (1, 1)
    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("service:beat") as session:
            assert summaries.record(session, row(beat.start, beat.end))
            second = pool.submit(lambda: written(transactions, "ada", caller))
            blocked(transactions)
            assert not second.done()
        assert second.result(timeout=90) is False, "another was first"
    again = left(transactions, "ada", upto=6)
    assert (again.start, again.end) == (5, 6)
    assert written(transactions, "ada", again)
    with transactions.begin("ada") as session:
        assert [(each.from_position, each.to_position) for each in summaries.read(session, "project-123")] == [(1, 4), (5, 6)]
        assert summaries.covered(session, "project-123") == 6
    assert unsummarised(transactions) == 0


def test_the_count_is_right_while_others_speak(transactions) -> None:
    say(transactions, 4)
    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("ada") as session:
            messages.send(session, "said while the summary is written", conversation_id="project-123")
            writing = pool.submit(lambda: written(transactions, "service:beat", summaries.Window(1, 4, [])))
            blocked(transactions)
        assert writing.result(timeout=90)
    assert unsummarised(transactions) == 1


def test_a_state_is_read_back_by_another_agent(transactions) -> None:
    with transactions.begin("ada") as session:
        cop.update_state(
            session, "Refactoring auth module", action="EXECUTING", thinking="OAuth2 vs JWT", wondering="refresh tokens?", offering="Crypto review"
        )
    with transactions.begin("bob") as session:
        rows = {each.name: each for each in cop.pulse(session, node_stale_s=6, agent_stale_s=600)}
    ada = rows["ada"]
    assert (ada.status, ada.thinking, ada.wondering, ada.offering) == ("EXECUTING", "OAuth2 vs JWT", "refresh tokens?", "Crypto review")
    assert not ada.stale
    assert (rows["eve"].status, rows["eve"].summary) == ("IDLE", "")


def test_a_silent_agent_turns_stale(transactions) -> None:
    with transactions.begin("ada") as session:
        cop.update_state(session, "thinking")
        session.execute(text("update cop_states set updated_at = updated_at - interval '1 hour' where kind = :kind"), {"kind": SubjectKind.AGENT})
    with transactions.begin("bob") as session:
        ada = next(each for each in cop.pulse(session, node_stale_s=6, agent_stale_s=600) if each.name == "ada")
    assert ada.stale
    assert ada.age_s > 3600


def test_an_unknown_action_is_named(transactions) -> None:
    with pytest.raises(InvalidInput, match="action: got 'SLEEPING', wants one of EXECUTING, IDLE, WAITING"), transactions.begin("ada") as session:
        cop.update_state(session, "zzz", action="SLEEPING")


def test_a_window_whose_summary_failed_is_asked_for_again_later_and_later(transactions) -> None:
    say(transactions, 4)
    [first] = due(transactions)
    failed(transactions, first, "11 seconds")
    [second] = due(transactions)
    assert second != first
    assert due(transactions) == []
    failed(transactions, second, "11 seconds")
    assert due(transactions) == [], "it failed a moment ago, and for the second time"
    with transactions.begin("test:hand") as session:
        session.execute(text("update celery_results set date_done = date_done - interval '10 seconds'"))
    [third] = due(transactions)
    assert third not in {first, second}


def test_a_caller_asks_again_at_once_after_a_failure(transactions) -> None:
    say(transactions, 4)
    with transactions.begin("ada") as session:
        first = summaries.request(session, "project-123")
    assert first is not None
    failed(transactions, first.execution_id, "0 seconds")
    with transactions.begin("ada") as session:
        second = summaries.request(session, "project-123")
    assert second is not None
    assert second.execution_id != first.execution_id


@pytest.mark.parametrize("failures", [15, 16, 17, 40])
def test_a_window_that_failed_many_times_is_still_asked_for(transactions, failures: int) -> None:
    say(transactions, 4)
    seen = set()
    for _ in range(failures):
        [identity] = due(transactions)
        seen.add(identity)
        failed(transactions, identity, "2 hours")
    assert len(seen) == failures
    assert len(due(transactions)) == 1


def test_a_failure_whose_result_is_forgotten_stays_a_failure(transactions) -> None:
    say(transactions, 4)
    [first] = due(transactions)
    with transactions.begin("test:hand") as session:
        session.execute(
            text("update executions set outcome = 'FAILURE', ended_at = clock_timestamp() - interval '8 days' where id = :id"), {"id": first}
        )
    [second] = due(transactions)
    assert second != first


def test_looking_for_due_windows_reads_no_history(transactions, postgres, database: str) -> None:
    with transactions.begin("test:hand") as session:
        session.execute(text("insert into conversations (id, created_by) select 'c' || c, 'ada' from generate_series(1, 400) c"))
        session.execute(
            text(
                """
                insert into messages (conversation_id, position, sender, message_type, content, correlation_id, trace_id)
                select 'c' || c, p, 'ada', 'chat', 'x', gen_random_uuid(), 't' from generate_series(1, 400) c, generate_series(1, 50) p
                """
            )
        )
        session.execute(text("update conversations set unsummarised = case when id in ('c7', 'c8') then 50 else 0 end"))
    with psycopg.connect(postgres.as_role("federation_owner", database), autocommit=True) as owner:
        owner.execute("analyze")
    with transactions.begin("service:beat") as session:
        plan = session.execute(text(f"explain (analyze, format json) {summaries._DUE.text}"), {"window": 4}).scalar_one()[0]["Plan"]
    assert rows_read(plan, "messages") <= 2 * 4
    assert rows_read(plan, "conversations") == 2


def rows_read(plan: dict, table: str) -> float:
    """Return how many rows of a table a plan looked at."""
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"] if plan.get("Relation Name") == table else 0
    return own + sum(rows_read(part, table) for part in plan.get("Plans", ()))
