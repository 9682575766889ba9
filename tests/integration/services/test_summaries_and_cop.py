"""Each window of a conversation is summarised once; the common operating picture shows who does what, and who is silent."""

import pytest
from sqlalchemy import text

from federation.errors import Conflict, InvalidInput, Refused
from federation.services import cop, messages, summaries
from federation.store.models.cop import SubjectKind


def say(transactions, count: int) -> None:
    with transactions.begin("ada") as session:
        for number in range(count):
            messages.send(session, f"message {number}", conversation_id="project-123")


def due(transactions) -> list:
    with transactions.begin("service:beat") as session:
        return summaries.request_due(session, window=4)


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
    first, again = due(transactions), due(transactions)
    assert first == again, "the same window is the same execution"
    assert publisher.published == first
    with transactions.begin("service:beat") as session:
        assert summaries.record(session, row(1, 4))
        assert not summaries.record(session, row(1, 4)), "a second delivery changes nothing"
    assert due(transactions) == []


def test_a_request_summarises_what_came_since(transactions) -> None:
    say(transactions, 6)
    with transactions.begin("service:beat") as session:
        summaries.record(session, row(1, 4))
    with transactions.begin("ada") as session:
        summaries.request(session, "project-123")
        assert [said.content for said in summaries.window(session, "project-123", start=5, end=6)] == ["message 4", "message 5"]
        summaries.record(session, row(5, 6))
    with pytest.raises(Conflict, match="nothing was said"), transactions.begin("ada") as session:
        summaries.request(session, "project-123")
    with pytest.raises(Refused), transactions.begin("eve") as session:
        summaries.read(session, "project-123")


def test_private_messages_stay_out_of_summaries(transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "for all", conversation_id="project-123")
        messages.send(session, "for bob alone", conversation_id="project-123", to="bob")
        assert [said.content for said in summaries.window(session, "project-123")] == ["for all"]


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


def test_a_window_whose_summary_failed_is_asked_for_again(transactions) -> None:
    say(transactions, 4)
    [first] = due(transactions)
    with transactions.begin("test") as session:
        session.execute(text("insert into celery_results (task_id, state) values (:id, 'FAILURE')"), {"id": str(first)})
    [second] = due(transactions)
    assert second != first
    assert due(transactions) == [second]
