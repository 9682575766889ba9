"""What nobody takes goes to those who lead, once; who leads designates who does what, and hands on what nobody works on."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import assignments, conversations, delegation, task_claims
from federation.store.models.events import Event
from federation.transaction import Transactions
from tests.integration.services.handing import by_hand, escalate, inbox, stands, take, wait_in_vain


def test_what_nobody_takes_is_told_once_to_those_who_lead_who_may_take_it(transactions: Transactions, hand_out: Any) -> None:
    hand_out(agent="bob")
    assert escalate(transactions) == []
    with pytest.raises(Refused, match="assigned to bob"):
        take(transactions, "ada")
    assert wait_in_vain(transactions) == [True]
    assert wait_in_vain(transactions) == []
    [told] = inbox(transactions, "ada")
    assert told.startswith("Nobody has taken task t: bob has not claimed it. Take it with federation_claim_task('t'), or hand it to somebody: ")
    with pytest.raises(Refused, match="assigned to bob"):
        take(transactions, "dan")
    assert take(transactions, "ada").claimed
    with transactions.begin("ada") as session:
        assert task_claims.release(session, "t")
    assert stands(transactions) == ("assigned", "bob"), "given back it is his again"


def test_what_somebody_holds_is_not_told_and_what_he_left_is(transactions: Transactions, hand_out: Any) -> None:
    hand_out()
    take(transactions, "bob")
    assert wait_in_vain(transactions) == []
    by_hand(transactions, "UPDATE claims SET expires_at = clock_timestamp() - interval '2 hours'")
    assert escalate(transactions) == [True]
    assert inbox(transactions, "ada")[-1].startswith("Nobody has taken task t: the claim of bob lapsed, and it is not done. ")
    hand_out("done")
    token = take(transactions, "bob", "done").fencing_token or 0
    with transactions.begin("bob") as session:
        task_claims.complete(session, "done", fencing_token=token, result={})
    assert wait_in_vain(transactions, "done") == []


def test_a_node_that_is_not_there_is_told_with_what_it_lacks(transactions: Transactions, hand_out: Any, publisher: Any) -> None:
    from federation.store import outbox

    hand_out(executor="node", requirements={"min_vram_gib": 80})
    with transactions.begin("service:outbox") as session:
        outbox.record_unsent(session, {publisher.published[0]: "min_vram_gib=80.0"})
    assert wait_in_vain(transactions) == [True]
    assert inbox(transactions, "ada")[-1].startswith("Nobody has taken task t: it waits for min_vram_gib=80.0. If it is not wanted any more: ")


def test_where_nobody_leads_who_asked_is_told(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        delegation.hand_out(session, "Do t", slug="t", conversation_id="theirs")
        conversations.open_for(session, "theirs", ["dan"])
    assert wait_in_vain(transactions) == [True]
    assert "Nobody who may hand it out is in theirs: bring one in" in inbox(transactions, "bob")[-1]
    assert inbox(transactions, "ada") == [], "who is no member does not hear of it"


def test_only_who_may_designate_assigns_a_role(transactions: Transactions, hand_out: Any) -> None:
    says = r"Explicit assignment .*: \w+, of the role \w+, may not hand a task to another agent"
    for name in ("bob", "eve"):
        with pytest.raises(Refused, match=says) as raised, transactions.begin(name) as session:
            assignments.assign(session, "dan", "developer", "Build it", conversation_id="release")
        assert "lead or human may: propose it" in raised.value.remedy


def test_the_lead_designates_and_the_agent_is_told_and_alone_may_take_it(transactions: Transactions) -> None:
    asked = {"conversation_id": "project-123", "slug": "memory-profile"}
    for _ in range(2):
        with transactions.begin("ada") as session:
            task = assignments.assign(session, "eve", "analyst", "Profile memory allocation in auth module", **asked)
    assert (task.status, task.assigned_to, task.description) == ("assigned", "eve", "Profile memory allocation in auth module")
    [told] = inbox(transactions, "eve")
    assert told.startswith("Task memory-profile for you as analyst: Profile memory allocation in auth module\n")
    with transactions.begin("eve") as session:
        assert [(one.agent, one.role, one.task, one.designated_by) for one in assignments.roles(session, "project-123")] == [
            ("eve", "analyst", "memory-profile", "ada")
        ]
    with transactions.begin("ada") as session:
        conversations.open_for(session, "project-123", ["bob"])
    with pytest.raises(Refused, match="assigned to eve"):
        take(transactions, "bob", "memory-profile")
    assert take(transactions, "eve", "memory-profile").claimed
    with transactions.begin("test:hand") as session:
        [event] = session.scalars(select(Event).where(Event.type == "role.assigned"))
    assert (event.actor, event.payload["agent"], event.payload["role"], event.payload["task_id"]) == ("ada", "eve", "analyst", str(task.id))


def test_a_role_gives_no_right(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        assignments.assign(session, "eve", "lead", "Lead them", conversation_id="project-123", slug="t")
        with pytest.raises(NotFound, match="no role 'leader'; nearest: lead"):
            assignments.assign(session, "eve", "leader", "Lead them", conversation_id="project-123")
    with pytest.raises(Refused, match="eve, of the role analyst, may not hand a task"), transactions.begin("eve") as session:
        assignments.assign(session, "bob", "developer", "Build it", conversation_id="project-123")


def test_a_task_that_nobody_works_on_is_handed_to_another(transactions: Transactions, hand_out: Any) -> None:
    task = hand_out(requirements={"role": "analyst"}, capability=None)
    wait_in_vain(transactions)
    with transactions.begin("ada") as session:
        handed = assignments.assign(session, "bob", "developer", "t", conversation_id="release")
    assert (handed.id, handed.status, handed.assigned_to, handed.escalated_at) == (task.id, "assigned", "bob", None)
    assert inbox(transactions, "bob")[-1].startswith("Task t for you as developer: Do t\n")
    with pytest.raises(Refused, match="assigned to bob"):
        take(transactions, "ada")
    take(transactions, "bob")
    with pytest.raises(Conflict, match="task t is held by bob"), transactions.begin("ada") as session:
        assignments.assign(session, "dan", "developer", "t", conversation_id="release")
    by_hand(transactions, "UPDATE claims SET expires_at = clock_timestamp()")
    with transactions.begin("ada") as session:
        assignments.assign(session, "dan", "developer", str(task.id), conversation_id="release")
        with pytest.raises(InvalidInput, match="task_id: got 'x', wants nothing where subtask names a task"):
            assignments.assign(session, "dan", "developer", "t", conversation_id="release", slug="x")
    with pytest.raises(Refused, match="assigned to dan"):
        take(transactions, "bob")
    assert take(transactions, "dan").fencing_token == 2


def test_of_many_who_take_and_hand_over_at_once_one_has_it(transactions: Transactions, hand_out: Any) -> None:
    for number in range(8):
        slug = f"race-{number}"
        hand_out(slug)

        def hand(slug: str = slug) -> bool:
            try:
                with transactions.begin("ada") as session:
                    assignments.assign(session, "dan", "developer", slug, conversation_id="release")
                    return True
            except Conflict:
                return False

        def claim(slug: str = slug) -> bool:
            try:
                return take(transactions, "bob", slug).claimed
            except Refused:
                return False

        with ThreadPoolExecutor(2) as pool:
            handed, claimed = pool.submit(hand), pool.submit(claim)
            assert handed.result() != claimed.result()
        assert stands(transactions, slug) == (("assigned", "dan") if handed.result() else ("running", "bob"))
