"""The event log: what was put down in a transaction is appended before the commit, in order; what was undone is not."""

from collections.abc import Sequence
from typing import Any

import psycopg

from federation.store import event_log
from federation.store.behalf import on_behalf_of


def told(database: str, columns: str) -> Sequence[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(f"SELECT {columns} FROM events WHERE type = 'thing.happened' ORDER BY sequence").fetchall()


def test_events_of_a_transaction_stand_in_the_order_of_the_calls_each_behind_the_last_of_its_stream(database: str, transactions) -> None:
    for _ in range(2):
        with transactions.begin("service:beat") as session:
            for number, stream in enumerate(("one", "two", "one")):
                event_log.append(session, "thing.happened", stream, payload={"number": number})
    happened = told(database, "stream, position, (payload->>'number')::int")
    assert happened == [("one", 1, 0), ("two", 1, 1), ("one", 2, 2), ("one", 3, 0), ("two", 2, 1), ("one", 4, 2)]


def test_a_payload_that_changes_after_the_call_is_told_as_it_was(database: str, transactions) -> None:
    payload = {"said": "yes"}
    with transactions.begin("service:beat") as session:
        event_log.append(session, "thing.happened", "one", payload=payload)
        payload["said"] = "no"
    assert told(database, "payload->>'said'") == [("yes",)]


def test_an_attempt_that_is_rolled_back_takes_its_events_along_and_no_others(database: str, transactions) -> None:
    with transactions.begin("service:beat") as session:
        event_log.append(session, "thing.happened", "before", payload={})
        attempt = event_log.attempt(session)
        event_log.append(session, "thing.happened", "written", payload={})
        event_log.write(session)
        event_log.append(session, "thing.happened", "put down", payload={})
        attempt.rollback()
        event_log.append(session, "thing.happened", "after", payload={})
    assert told(database, "stream") == [("before",), ("after",)]


def test_a_position_that_is_taken_lies_behind_what_was_put_down_before(database: str, transactions) -> None:
    with transactions.begin("service:beat") as session:
        event_log.append(session, "thing.happened", "one", payload={"number": 1})
        position = event_log.advance(session, "one")
        event_log.append(session, "thing.happened", "one", payload={"number": 2}, position=position)
    assert position == 2
    assert told(database, "position, (payload->>'number')::int") == [(1, 1), (2, 2)]


def test_what_is_done_on_behalf_of_somebody_is_told_under_his_name_and_the_rest_under_the_callers(database: str, transactions) -> None:
    with transactions.begin("ada", trace_id="a" * 32) as session:
        event_log.append(session, "thing.happened", "agent:ada", payload={})
        with on_behalf_of(session, "bob", trace_id="b" * 32):
            event_log.append(session, "thing.happened", "agent:bob", payload={})
        event_log.append(session, "thing.happened", "agent:ada", payload={})
    assert told(database, "stream, actor, left(trace_id, 1)") == [("agent:ada", "ada", "a"), ("agent:bob", "bob", "b"), ("agent:ada", "ada", "a")]


def test_many_events_and_any_characters_go_together(database: str, transactions) -> None:
    said = "'{}[]\"\\:x \u00fc\u2028"
    with transactions.begin("service:beat") as session:
        for number in range(1_000):
            event_log.append(session, "thing.happened", f"stream {number % 7}", payload={"said": said})
    assert len(set(told(database, "stream, position"))) == 1_000
    assert set(told(database, "payload->>'said'")) == {(said,)}
