"""When a conversation is summarised is set by its members, and what follows is due once, whoever looks and however often."""

from datetime import UTC

import psycopg
import pytest
from sqlalchemy import text

from federation.errors import InvalidInput, NotFound, Refused
from federation.services import messages, summaries, summary_schedules
from tests.integration.services.test_summaries_and_cop import due, failed, row, say


def put(transactions, name: str = "ada", conversation: str = "project-123", **values):
    with transactions.begin(name) as session:
        return summary_schedules.put(session, conversation, **values)


def events(transactions) -> list:
    with transactions.begin("test:hand") as session:
        told = "SELECT type, actor, payload - 'version' FROM events WHERE type LIKE 'conversation.%scheduled' ORDER BY sequence"
        return [tuple(event) for event in session.execute(text(told))]


def earlier(database: str, what: str, by: str, *, upto: int = 10_000) -> None:
    """Let what was said up to a position, or what was set, have been so much earlier."""
    which = "messages SET created_at = created_at - %s::interval WHERE position <= %s"
    if what == "schedules":
        which = "summary_schedules SET updated_at = updated_at - %s::interval WHERE %s > 0"
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"UPDATE {which}", [by, upto])


def executions(transactions) -> dict:
    with transactions.begin("test:hand") as session:
        return {
            row.id: (row.kwargs["conversation_id"], row.kwargs["to_position"]) for row in session.execute(text("SELECT id, kwargs FROM executions"))
        }


def test_a_schedule_is_set_changed_and_removed_and_the_same_once_more_changes_nothing(transactions) -> None:
    say(transactions, 1)
    first = put(transactions, cron=" 0  7 * *  mon-fri ")
    assert (first.cron, first.messages, first.created_by, first.updated_by) == ("0 7 * * mon-fri", None, "ada", "ada")
    assert first.next_at is not None
    assert (first.next_at.hour, first.next_at.minute, first.next_at.tzinfo) == (7, 0, UTC)
    assert first.next_at.weekday() < 5
    assert put(transactions, cron="0 7 * * mon-fri").updated_at == first.updated_at
    second = put(transactions, "cli:root", messages=20)
    assert (second.cron, second.messages, second.next_at, second.created_by, second.updated_by) == (None, 20, None, "ada", "cli:root")
    with transactions.begin("ada") as session:
        assert summary_schedules.listed(session) == [second]
        summary_schedules.remove(session, "project-123")
        assert summary_schedules.listed(session) == []
        with pytest.raises(NotFound, match="no schedule 'project-123'"):
            summary_schedules.remove(session, "project-123")
    assert events(transactions) == [
        ("conversation.scheduled", "ada", {"cron": "0 7 * * mon-fri", "messages": None}),
        ("conversation.scheduled", "cli:root", {"cron": None, "messages": 20}),
        ("conversation.unscheduled", "ada", {}),
    ]


@pytest.mark.parametrize(
    ("values", "wants"),
    [
        ({}, "cron: got None, wants times"),
        ({"cron": "0 7 * *"}, "cron: got '0 7 * *', wants five fields: minute, hour"),
        ({"cron": "0 0 7 * * *"}, "wants five fields"),
        ({"cron": "@daily"}, "wants five fields"),
        ({"cron": ""}, "wants five fields"),
        ({"cron": "61 7 * * *"}, "Bad minute"),
        ({"cron": "0 7 30 feb *"}, "Bad day-of-month"),
        ({"cron": "0 7 * * funday"}, "Bad day-of-week"),
        ({"cron": f"0{',1' * 100} 7 * * *"}, "wants five fields"),
        ({"cron": "0 7 ٣ * *"}, "Bad day-of-month"),
        ({"messages": 1}, "messages: got 1, wants 2 to 10000"),
        ({"messages": 10_001}, "messages: got 10001"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_one_is(transactions, values: dict, wants: str) -> None:
    say(transactions, 1)
    with pytest.raises(InvalidInput) as refused:
        put(transactions, **values)
    assert wants in str(refused.value)
    assert events(transactions) == []


def test_members_with_the_right_to_run_set_it_and_others_see_none(transactions) -> None:
    say(transactions, 1)
    with transactions.begin("ada") as session:
        messages.send(session, "you too", conversation_id="project-123", to="dan")
    put(transactions, messages=20)
    for act in (
        lambda session: summary_schedules.put(session, "project-123", messages=2),
        lambda session: summary_schedules.remove(session, "project-123"),
    ):
        with pytest.raises(NotFound, match="no conversation 'project-123'"), transactions.begin("eve") as session:
            act(session)
    with transactions.begin("eve") as session:
        assert summary_schedules.listed(session) == []
    assert put(transactions, "dan", messages=30).updated_by == "dan"
    with transactions.begin("cli:root") as session:
        assert [each.messages for each in summary_schedules.listed(session)] == [30]
    for name in ("ada", "cli:root"):
        with pytest.raises(NotFound, match="no conversation 'nowhere'"):
            put(transactions, name, "nowhere", messages=20)


def test_who_may_not_run_is_told_who_may(transactions, chartered) -> None:
    from federation.charter import charter_text

    say(transactions, 1)
    chartered(charter_text().replace('may = ["designate", "offer", "run", "claim", "vote", "move", "approve", "cancel"]', 'may = ["offer"]'))
    with pytest.raises(Refused, match=r"ada, of the role lead, may not .* set when conversations are summarised; developer or analyst"):
        put(transactions, messages=20)
    assert put(transactions, "cli:root", messages=20).messages == 20


def test_a_schedule_by_size_takes_the_place_of_what_is_so_for_all(transactions) -> None:
    say(transactions, 5)
    with transactions.begin("ada") as session:
        for number in range(5):
            messages.send(session, f"{number}")
    put(transactions, messages=6)
    [commons] = due(transactions)
    assert due(transactions) == [], "of the other one there are not enough"
    say(transactions, 1)
    [larger] = due(transactions)
    assert executions(transactions) == {commons: ("commons", 4), larger: ("project-123", 6)}
    with transactions.begin("service:beat") as session:
        assert summaries.record(session, {**row(1, 4), "conversation_id": "commons"})
    put(transactions, "ada", "commons", messages=2)
    say(transactions, 1)
    with transactions.begin("ada") as session:
        messages.send(session, "the second behind the first window")
    [smaller] = due(transactions)
    assert executions(transactions)[smaller] == ("commons", 6)


def test_what_was_said_before_a_time_is_due_then_and_once(transactions, database: str) -> None:
    say(transactions, 2)
    earlier(database, "messages", "2 hours")
    put(transactions, cron="* * * * *")
    assert due(transactions) == [], "no time has come since it was set"
    earlier(database, "schedules", "1 hour")
    put_off = put(transactions, "ada", cron="0 0 1 1 *")
    assert put_off.next_at is not None
    assert due(transactions) == [], "changing it begins anew"
    put(transactions, cron="* * * * *")
    earlier(database, "schedules", "1 hour")
    [first] = due(transactions)
    assert executions(transactions) == {first: ("project-123", 2)}
    assert due(transactions) == [], "the same window is the same execution"
    with transactions.begin("service:beat") as session:
        assert summaries.record(session, row(1, 2))
    assert due(transactions) == [], "nothing is left"
    with transactions.begin("ada") as session:
        messages.send(session, "for bob alone", conversation_id="project-123", to="bob")
    earlier(database, "messages", "2 hours")
    assert due(transactions) == [], "and what was said to one person is no reason"


@pytest.mark.tampers
def test_a_schedule_that_nobody_can_read_hides_no_other(transactions, database: str) -> None:
    say(transactions, 2)
    earlier(database, "messages", "2 hours")
    put(transactions, cron="* * * * *")
    earlier(database, "schedules", "1 hour")
    with transactions.begin("bob") as session:
        messages.send(session, "hello", conversation_id="another")
        summary_schedules.put(session, "another", cron="* * * * *")
        session.execute(text("UPDATE summary_schedules SET cron = 'whenever' WHERE conversation_id = 'another'"))
    [found] = due(transactions)
    assert executions(transactions)[found] == ("project-123", 2)


def test_a_time_takes_what_was_said_up_to_it_and_leaves_the_rest_for_the_next(transactions, database: str) -> None:
    say(transactions, 3)
    earlier(database, "messages", "400 days", upto=2)
    put(transactions, cron="0 0 1 1 *")
    earlier(database, "schedules", "500 days")
    # Behind the last time, even in the first minute of a year.
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE messages SET created_at = clock_timestamp() + interval '1 day' WHERE position = 3")
    [asked] = due(transactions)
    assert executions(transactions) == {asked: ("project-123", 2)}


def test_what_is_due_by_time_and_by_size_is_summarised_once_each(transactions, database: str) -> None:
    say(transactions, 3)
    earlier(database, "messages", "2 hours")
    put(transactions, cron="* * * * *")
    earlier(database, "schedules", "1 hour")
    [by_time] = due(transactions)
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE summary_schedules SET cron = '0 0 1 1 *'")
    say(transactions, 1)
    [by_size] = due(transactions)
    assert executions(transactions) == {by_time: ("project-123", 3), by_size: ("project-123", 4)}
    # Both run: the second finds but what the first has left.
    with transactions.begin("service:beat") as session:
        assert summaries.record(session, row(1, 3))
        left = summaries.rest(session, "project-123", upto=4)
    assert left is not None
    assert (left.start, left.end) == (4, 4)


def test_a_time_whose_summary_failed_is_not_lost(transactions, database: str) -> None:
    say(transactions, 2)
    earlier(database, "messages", "2 hours")
    put(transactions, cron="* * * * *")
    earlier(database, "schedules", "1 hour")
    [first] = due(transactions)
    failed(transactions, first, "0 seconds")
    assert due(transactions) == [], "not at once"
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE celery_results SET date_done = date_done - interval '11 seconds'"))
    [second] = due(transactions)
    assert second != first
    assert executions(transactions)[second] == executions(transactions)[first]
