"""Summaries of one level that follow on each other are summarised as one of the next: each once, and each leads to what it was made of."""

import uuid

import pytest
from sqlalchemy import text

from federation.errors import InvalidInput, NotFound
from federation.services import messages, summaries, summary_levels
from federation.services.summary_levels import PARTS
from tests.integration.services.test_summaries_and_cop import row


def spoken(transactions, count: int) -> list[uuid.UUID]:
    with transactions.begin("ada") as session:
        return [messages.send(session, f"- Finding {number}. It leaks.", conversation_id="project-123").message_id for number in range(count)]


def window(number: int, said: list[uuid.UUID]) -> dict:
    """A summary of two messages, of the first of which a sentence was taken, and both of the second."""
    first = 2 * number
    lines = [f"ada: Finding {first}.", f"ada: Finding {first + 1}.", "ada: It leaks."]
    return {**row(first + 1, first + 2), "text": "\n".join(lines), "message_ids": [str(each) for each in said[first : first + 2]]}


def climb(transactions) -> list[tuple[int, int, int]]:
    """Summarise levels as long as there is something, as a node does; return level, start and end of each."""
    made = []
    while True:
        with transactions.begin("service:beat") as session:
            due = summary_levels.due(session, "project-123")
            if due is None:
                return made
            lines = [f"{each.sender}: {each.content}" for each in due.messages[:2]]
            ids = [str(identity) for each in due.messages[:2] for identity in each.message_ids]
            assert summaries.record(session, {**row(due.start, due.end), "level": due.level, "text": "\n".join(lines), "message_ids": ids})
            made.append((due.level, due.start, due.end))


def unsummarised(transactions) -> int:
    with transactions.begin("test:hand") as session:
        return session.execute(text("SELECT unsummarised FROM conversations WHERE id = 'project-123'")).scalar_one()


def test_a_long_conversation_is_read_in_few_summaries_that_lead_to_all_others(transactions) -> None:
    windows = PARTS * PARTS + PARTS + 1
    said = spoken(transactions, 2 * windows + 1)
    made = []
    for number in range(windows):
        with transactions.begin("service:beat") as session:
            assert summaries.record(session, window(number, said))
        made += climb(transactions)
    second = [(2, 2 * PARTS * number + 1, 2 * PARTS * (number + 1)) for number in range(PARTS + 1)]
    assert made == [*second[:PARTS], (3, 1, 2 * PARTS * PARTS), second[PARTS]]
    assert unsummarised(transactions) == 1, "summaries of summaries count no message twice"
    with transactions.begin("ada") as session:
        shown = summaries.read(session, "project-123")
        assert [(each.level, each.from_position, each.to_position) for each in shown] == [
            (3, 1, 2 * PARTS * PARTS),
            second[PARTS],
            (1, 2 * windows - 1, 2 * windows),
        ]
        assert summaries.covered(session, "project-123") == 2 * windows
        below = summary_levels.parts(session, "project-123", shown[0].summary_id)
        assert [(each.level, each.from_position, each.to_position) for each in below] == second[:PARTS]
        lowest = [each for part in below for each in summary_levels.parts(session, "project-123", part.summary_id)]
        assert [(each.level, each.from_position) for each in lowest] == [(1, 2 * number + 1) for number in range(PARTS * PARTS)]
        with pytest.raises(InvalidInput, match=r"wants one of level 2 or more; that one is of messages: federation_history\(after=2\)"):
            summary_levels.parts(session, "project-123", lowest[1].summary_id)
    assert climb(transactions) == []


def test_a_sentence_keeps_its_speaker_and_the_message_that_it_was_taken_from(transactions) -> None:
    said = spoken(transactions, 2 * PARTS)
    for number in range(PARTS):
        with transactions.begin("service:beat") as session:
            values = window(number, said)
            if number == 1:
                # As a model writes it, who names nobody.
                values |= {"text": "It grows: nobody knows why.", "method": "abstractive"}
            if number == 2:
                values |= {"text": "Nothing was said to all.", "message_ids": []}
            assert summaries.record(session, values)
            due = summary_levels.due(session, "project-123")
    assert due is not None
    assert (due.level, due.start, due.end) == (2, 1, 2 * PARTS)
    told = [(list(each.message_ids), each.sender, each.content) for each in due.messages]
    assert told[:5] == [
        ([said[0]], "ada", "Finding 0."),
        ([said[1]], "ada", "Finding 1."),
        ([said[0]], "ada", "It leaks."),
        (said[2:4], "", "It grows: nobody knows why."),
        ([said[6]], "ada", "Finding 6."),
    ]


def test_a_sentence_that_was_cut_keeps_its_speaker_and_its_message(transactions) -> None:
    with transactions.begin("ada") as session:
        said = [messages.send(session, f"Finding {number} goes on and on.", conversation_id="project-123").message_id for number in range(PARTS)]
    with transactions.begin("service:beat") as session:
        for number, each in enumerate(said):
            cut = {"text": f"ada: Finding {number} goes on…", "message_ids": [str(each)]}
            assert summaries.record(session, {**row(number + 1, number + 1), **cut})
        due = summary_levels.due(session, "project-123")
    assert due is not None
    assert [(list(each.message_ids), each.sender, each.content) for each in due.messages][:2] == [
        ([said[0]], "ada", "Finding 0 goes on…"),
        ([said[1]], "ada", "Finding 1 goes on…"),
    ]


def test_of_two_who_summarise_the_same_summaries_one_is_first(transactions) -> None:
    said = spoken(transactions, 2 * PARTS)
    with transactions.begin("service:beat") as session:
        for number in range(PARTS):
            assert summaries.record(session, window(number, said))
        due = summary_levels.due(session, "project-123")
    assert due is not None
    values = {**row(due.start, due.end), "level": due.level}
    for name, first in (("ada", True), ("service:beat", False)):
        with transactions.begin(name) as session:
            assert summaries.record(session, values) is first
            assert summary_levels.due(session, "project-123") is None


def test_what_a_summary_was_made_of_is_for_its_readers(transactions) -> None:
    said = spoken(transactions, 2 * PARTS)
    with transactions.begin("service:beat") as session:
        for number in range(PARTS):
            summaries.record(session, window(number, said))
    climb(transactions)
    with transactions.begin("ada") as session:
        [whole] = summaries.read(session, "project-123")
        messages.send(session, "hello", conversation_id="other")
        for conversation, identity, says in (("other", whole.summary_id, "no summary"), ("project-123", uuid.uuid4(), "no summary")):
            with pytest.raises(NotFound, match=says):
                summary_levels.parts(session, conversation, identity)
    with pytest.raises(NotFound, match="no conversation 'project-123'"), transactions.begin("eve") as session:
        summary_levels.parts(session, "project-123", whole.summary_id)
