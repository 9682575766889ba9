"""How far a task is with its parts: whatever their order, and never further than they are."""

from hypothesis import given
from hypothesis import strategies as st

from federation.services.task_trees import rolled_up
from federation.store.models.tasks import ENDED, TaskStatus

S = TaskStatus
OPEN = sorted(set(S) - ENDED)
STATUSES = st.sampled_from(list(S))


def test_what_a_whole_is_follows_from_its_parts() -> None:
    assert rolled_up(S.PENDING, []) is S.PENDING
    assert rolled_up(S.PENDING, [S.PENDING, S.ASSIGNED]) is S.PENDING
    assert rolled_up(S.PENDING, [S.PENDING, S.RUNNING]) is S.RUNNING
    assert rolled_up(S.ASSIGNED, [S.COMPLETED, S.PENDING]) is S.RUNNING
    assert rolled_up(S.RUNNING, [S.COMPLETED, S.COMPLETED]) is S.COMPLETED
    assert rolled_up(S.RUNNING, [S.COMPLETED, S.CANCELLED]) is S.COMPLETED
    assert rolled_up(S.RUNNING, [S.CANCELLED, S.CANCELLED]) is S.CANCELLED
    assert rolled_up(S.RUNNING, [S.COMPLETED, S.FAILED]) is S.FAILED
    assert rolled_up(S.RUNNING, [S.COMPLETED, S.EXPIRED]) is S.FAILED
    assert rolled_up(S.COMPLETED, [S.CANCELLED]) is S.COMPLETED


@given(own=STATUSES, below=st.lists(STATUSES, min_size=1, max_size=6), order=st.randoms())
def test_order_of_parts_does_not_matter_and_nothing_is_done_before_all_are(own: S, below: list[S], order: object) -> None:
    found = rolled_up(own, below)
    shuffled = list(below)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rolled_up(own, shuffled) is found
    if own in ENDED:
        assert found is own
    else:
        assert (found in ENDED) == all(each in ENDED for each in below)
