"""A task of parts: they stand with their whole, say how far it is, and end with it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from federation.errors import Conflict, NotFound
from federation.services import approvals, task_claims, task_ends, task_trees, tasks
from federation.services.approvals import Decision
from federation.transaction import Transactions
from tests.integration.services.handing import by_hand, end_what_is_over, stands, take


def test_parts_stand_with_their_whole_and_say_how_far_it_is(transactions: Transactions, hand_out: Any) -> None:
    hand_out("ship")
    hand_out("build", parent="ship", conversation_id=None)
    hand_out("compile", parent="build")
    hand_out("test", parent="ship")

    def look() -> tuple[str, list[tuple[int, str | None, str, str]]]:
        with transactions.begin("dan") as session:
            tree = task_trees.tree(session, tasks.find(session, "ship"))
            return tree.overall, [(part.level, part.slug, part.state, part.overall) for part in tree.parts]

    names = [(1, "build"), (2, "compile"), (1, "test")]
    assert look() == ("pending", [(*name, "pending", "pending") for name in names])
    token = take(transactions, "bob", "compile").fencing_token or 0
    assert look() == ("running", [(1, "build", "pending", "running"), (2, "compile", "running", "running"), (1, "test", "pending", "pending")])
    with transactions.begin("bob") as session:
        task_claims.complete(session, "compile", fencing_token=token, result={})
    assert look()[1][0] == (1, "build", "pending", "completed")
    assert look()[0] == "running"
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "test")
    assert look()[0] == "completed", "all that was wanted is done; its holder still says what came of it"
    assert stands(transactions, "ship") == ("pending", None), "which is stored nowhere"


def test_a_whole_is_completed_after_its_parts_and_ends_with_them(transactions: Transactions, hand_out: Any, publisher: Any) -> None:
    hand_out("ship")
    for slug, terms in {"build": {}, "test": {"executor": "node"}}.items():
        hand_out(slug, parent="ship", **terms)
    hand_out("compile", parent="build")
    token = take(transactions, "bob", "ship").fencing_token or 0
    mine = take(transactions, "dan", "compile").fencing_token or 0
    says = r"task ship has parts that have not ended: build \(pending\), test \(pending\); wait"
    with pytest.raises(Conflict, match=says), transactions.begin("bob") as session:
        task_claims.complete(session, "ship", fencing_token=token, result={})
    with transactions.begin("bob") as session:
        task_claims.complete(session, "ship", fencing_token=token, result={"no": "money"}, success=False)
    assert {stands(transactions, slug)[0] for slug in ("build", "test", "compile")} == {"cancelled"}
    assert publisher.cancelled == publisher.published
    with pytest.raises(Conflict, match="compile is cancelled already"), transactions.begin("dan") as session:
        task_claims.complete(session, "compile", fencing_token=mine, result={})
    with transactions.begin("ada") as session:
        why = tasks.find(session, "compile").result
    assert why == {"cancelled_by": "bob", "reason": "task build, of which it is a part, is cancelled"}
    with pytest.raises(Conflict, match="task ship is failed and gets no more parts"):
        hand_out("late", parent="ship")


def test_parts_of_what_is_rejected_are_not_wanted_any_more(transactions: Transactions, hand_out: Any) -> None:
    hand_out("ship", who="bob", requires_approval=True)
    hand_out("build", parent="ship")
    with transactions.begin("ada") as session:
        approvals.decide(session, "ship", Decision.REJECT, reason="not now")
    assert stands(transactions, "build") == ("cancelled", None)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_parts_of_what_is_cancelled_or_expired_are_not_wanted_any_more(transactions: Transactions, hand_out: Any, end: str) -> None:
    hand_out("ship", timeout_s=60)
    hand_out("build", parent="ship")
    done = hand_out("design", parent="ship")
    by_hand(transactions, "UPDATE agent_tasks SET status = 'running' WHERE id = :id", id=done.id)
    by_hand(transactions, "UPDATE agent_tasks SET status = 'completed', result = '{}' WHERE id = :id", id=done.id)
    if end == "cancelled":
        with transactions.begin("ada") as session:
            task_ends.cancel(session, "ship")
    else:
        by_hand(transactions, "UPDATE agent_tasks SET expires_at = clock_timestamp() WHERE slug = 'ship'")
        assert end_what_is_over(transactions) == [True]
    assert [stands(transactions, slug)[0] for slug in ("ship", "build", "design")] == [end, "cancelled", "completed"]


def test_no_part_is_added_unseen_while_the_whole_ends(transactions: Transactions, hand_out: Any) -> None:
    for number in range(10):
        whole = f"whole-{number}"
        hand_out(whole)

        def add(whole: str = whole) -> str:
            try:
                return str(hand_out(f"part-of-{whole}", parent=whole).slug)
            except Conflict:
                return ""

        def cancel(whole: str = whole) -> None:
            with transactions.begin("ada") as session:
                task_ends.cancel(session, whole)

        with ThreadPoolExecutor(2) as pool:
            added, cancelled = pool.submit(add), pool.submit(cancel)
            part = added.result()
            cancelled.result()
        assert not part or stands(transactions, part)[0] == "cancelled"


def test_a_part_stands_in_no_other_conversation_than_its_whole(transactions: Transactions, hand_out: Any) -> None:
    task = hand_out("ship")
    hand_out("other", conversation_id="elsewhere")
    with pytest.raises(NotFound, match="no task 'ship'"):
        hand_out("build", parent="ship", conversation_id="elsewhere")
    for parent in ("ship", str(task.id)):
        with pytest.raises(NotFound, match="no task"):
            hand_out("build", parent=parent, who="eve", conversation_id=None)
    first = hand_out("build", parent="ship")
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "build")
    assert hand_out("build", parent=str(task.id)).id == first.id, "asked for again it is the one that is there"
    with pytest.raises(Conflict, match=r"\(parent_id differ\)"):
        hand_out("build")
