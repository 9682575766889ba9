"""Turns within message groups: never two of a group at once, never out of order, nothing lost at the end."""

from collections import defaultdict
from unittest.mock import sentinel

from hypothesis import given
from hypothesis import strategies as st

from federation.broker.frames import Frame
from federation.broker.turns import Turns

GROUPS = st.sampled_from("abc")


@given(st.lists(st.tuples(st.sampled_from(("arrive", "settle")), GROUPS), max_size=60))
def test_one_of_each_group_is_out_at_a_time_and_in_order(steps: list[tuple[str, str]]) -> None:
    turns = Turns()
    arrived: dict[str, list[Frame]] = defaultdict(list)
    handed: dict[str, list[Frame]] = defaultdict(list)
    out: dict[str, Frame] = {}

    def hand_over(group: str, frame: Frame) -> None:
        assert group not in out
        out[group] = frame
        handed[group].append(frame)

    for step, group in steps:
        if step == "arrive":
            frame = Frame("MESSAGE", {"message_group": group, "ack": str(len(arrived[group]))})
            arrived[group].append(frame)
            assert not turns.was_called(frame)
            if turns.take(group, sentinel.subscription, frame):
                hand_over(group, frame)
        elif group in out:
            del out[group]
            called = turns.call_next(group)
            if called is not None:
                assert turns.was_called(called)
                assert not turns.was_called(called)
                hand_over(group, called)
    waiting = defaultdict(list)
    for held in turns.drop_all():
        waiting[held.frame.headers["message_group"]].append(held.frame)
    assert {group: handed[group] + waiting[group] for group in arrived} == arrived
    assert turns.drop_all() == []


def test_who_was_called_and_not_received_yet_is_dropped_too() -> None:
    turns = Turns()
    first, second = (Frame("MESSAGE", {"ack": number}) for number in "12")
    assert turns.take("a", sentinel.subscription, first)
    assert not turns.take("a", sentinel.subscription, second)
    assert turns.call_next("a") is second
    assert [held.frame for held in turns.drop_all()] == [second]
    assert turns.call_next("a") is None
