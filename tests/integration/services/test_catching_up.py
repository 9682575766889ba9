"""Who joins late reads summaries and the latest messages within the room that he names, and is told what is in neither."""

import uuid

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from federation.errors import NotFound
from federation.services import catching_up, messages, summaries
from federation.services.catching_up import CaughtUp
from tests.integration.services.test_summaries_and_cop import row, say

ROOM = 8_000


def talk(transactions, count: int, *, length: int = 100) -> None:
    with transactions.begin("ada") as session:
        for number in range(count):
            messages.send(session, f"{number} ".ljust(length, "x"), conversation_id="project-123")


def summarise(transactions, *windows: tuple[int, int], length: int = 100) -> None:
    with transactions.begin("service:beat") as session:
        for start, end in windows:
            assert summaries.record(session, {**row(start, end), "text": f"{start}–{end} ".ljust(length, "s")})


def read(transactions, room: int = ROOM, name: str = "ada") -> CaughtUp:
    with transactions.begin(name) as session:
        return catching_up.read(session, "project-123", room=room)


def spans(listed) -> list[tuple[int, int]]:
    return [(each.from_position, each.to_position) for each in listed]


def positions(found: CaughtUp) -> list[int]:
    return [line.position for line in found.messages]


def test_what_fits_is_read_word_for_word_and_needs_no_summary(transactions) -> None:
    talk(transactions, 10)
    summarise(transactions, (1, 4))
    found = read(transactions)
    assert (found.summaries, positions(found), found.left_out) == ([], list(range(1, 11)), [])
    assert (found.messages[0].sender, found.messages[0].content.strip("x")) == ("ada", "0 ")


def test_what_does_not_fit_is_read_in_its_summaries(transactions) -> None:
    talk(transactions, 60)
    summarise(transactions, (1, 20), (21, 40), (41, 50))
    found = read(transactions)
    assert spans(found.summaries)[:2] == [(1, 20), (21, 40)]
    assert positions(found) == list(range(found.messages[0].position, 61)), "and the latest have no gap"
    assert found.messages[0].position <= found.summaries[-1].to_position + 1
    assert found.left_out == []
    assert catching_up.size(found) <= ROOM
    assert catching_up.size(found) > ROOM / 2


def test_what_is_in_no_summary_and_does_not_fit_is_said(transactions) -> None:
    talk(transactions, 60)
    summarise(transactions, (1, 20))
    found = read(transactions, 4_000)
    assert spans(found.summaries) == [(1, 20)]
    [gap] = found.left_out
    assert (gap.from_position, gap.to_position, gap.messages) == (21, found.messages[0].position - 1, found.messages[0].position - 21)
    with transactions.begin("ada") as session:
        assert not catching_up.fits(session, "project-123", room=4_000), "a summary would help"
    summarise(transactions, (21, 60))
    with transactions.begin("ada") as session:
        assert catching_up.fits(session, "project-123", room=4_000)
    assert read(transactions, 4_000).left_out == []


def test_the_latest_summaries_come_before_the_earliest(transactions) -> None:
    talk(transactions, 40)
    summarise(transactions, *((start, start + 3) for start in range(1, 37, 4)), length=600)
    found = read(transactions, 4_000)
    assert found.summaries[-1].to_position == 36 or found.messages[0].position <= 37
    [gap] = found.left_out
    assert (gap.from_position, gap.to_position) == (1, found.summaries[0].from_position - 1)


def test_in_little_room_there_are_a_summary_and_the_latest_messages(transactions) -> None:
    talk(transactions, 60, length=40)
    with transactions.begin("service:beat") as session:
        for start in range(1, 51, 10):
            ids = [str(uuid.uuid4()) for _ in range(5)]
            assert summaries.record(session, {**row(start, start + 9), "text": "s" * 450, "message_ids": ids})
    # 400 tokens, less what an answer says anyhow.
    found = read(transactions, 1_250)
    assert spans(found.summaries)
    assert positions(found) == list(range(found.messages[0].position, 61))
    assert len(found.messages) > 1
    assert catching_up.size(found) <= 1_250
    assert found.summaries[0].message_ids is None, "its positions lead to them"
    [gap] = [gap for gap in found.left_out if gap.from_position > found.summaries[-1].to_position]
    assert gap.to_position == found.messages[0].position - 1


def test_a_message_that_is_larger_than_the_room_is_left_out_and_said(transactions) -> None:
    talk(transactions, 3)
    with transactions.begin("ada") as session:
        messages.send(session, "y" * 10_000, conversation_id="project-123")
    summarise(transactions, (1, 3))
    found = read(transactions, 2_000)
    assert (spans(found.summaries), found.messages) == ([(1, 3)], [])
    assert [(gap.from_position, gap.to_position, gap.messages) for gap in found.left_out] == [(4, 4, 1)]


def test_nothing_of_others_is_read_counted_or_told_to_a_stranger(transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id="project-123", to="bob")
        messages.send(session, "join us", conversation_id="project-123", to="dan")
        for number in range(40):
            messages.send(session, f"for bob alone {number} " + "x" * 300, conversation_id="project-123", to="bob")
        messages.send(session, "to all", conversation_id="project-123")
    found = read(transactions, 2_000, "dan")
    assert ([line.content for line in found.messages], found.left_out) == (["join us", "to all"], [])
    assert (found.messages[0].to, found.messages[1].to) == ("dan", None)
    [gap] = read(transactions, 2_000, "bob").left_out
    assert gap.messages > 30
    with pytest.raises(NotFound, match="no conversation 'project-123'"):
        read(transactions, name="eve")


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 12_000), st.lists(st.integers(1, 12), max_size=4))
def test_each_message_is_here_in_a_summary_or_told_to_be_left_out_and_the_room_is_kept(transactions, room: int, windows: list[int]) -> None:
    with transactions.begin("ada") as session:
        for number in range(30):
            messages.send(session, f"{number} „ä“\n" + "x" * (number * 37 % 400), conversation_id=f"about-{hash((room, *windows))}")
        conversation, start = f"about-{hash((room, *windows))}", 1
        for length in windows:
            end = min(start + length - 1, 30)
            if start <= end:
                summaries.record(session, {**row(start, end), "conversation_id": conversation, "text": "s" * 200})
            start = end + 1
        found = catching_up.read(session, conversation, room=room)
        last = catching_up.read(session, conversation, room=10**6)
    assert positions(last) == list(range(1, 31))
    if found.summaries or found.messages:
        assert catching_up.size(found) <= room + len('{"summaries":[],"messages":[],"left_out":[]}')
    told = set(positions(found))
    for each in (*found.summaries, *found.left_out):
        told |= set(range(each.from_position, each.to_position + 1))
    assert told == set(range(1, 31))
    for gap in found.left_out:
        assert gap.messages == gap.to_position - gap.from_position + 1
        assert not set(positions(found)) & set(range(gap.from_position, gap.to_position + 1))


def test_an_empty_conversation_and_no_room_at_all(transactions) -> None:
    say(transactions, 1)
    found = read(transactions, -100)
    assert (found.summaries, found.messages, spans(found.left_out)) == ([], [], [(1, 1)])
