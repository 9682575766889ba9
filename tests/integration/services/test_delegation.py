"""Work is handed to who can do it, or to a person, for a time; who brings in too many is warned."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text

from federation.errors import Conflict, InvalidInput, Refused
from federation.services import agents, approvals, assignments, conversations, cop, executions, messages, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.store.models.events import Event
from federation.store.models.tasks import AgentTask
from federation.transaction import Transactions
from tests.integration.services.handing import by_hand, end_what_is_over, inbox, stands, take


def test_a_task_for_a_capability_is_taken_by_one_who_says_that_he_can(transactions: Transactions, hand_out: Any) -> None:
    with transactions.begin("dan") as session:
        cop.update_state(session, "Here", able=["analyze_logs"])
    hand_out(capability="analyze_logs")
    assert inbox(transactions, "bob") == []
    [told] = inbox(transactions, "dan")
    assert told.startswith("Task t for who can analyze_logs: Do t\nClaim it with federation_claim_task('t').")
    with pytest.raises(Refused, match=r"Explicit assignment .*: task t is for who can analyze_logs: .*capabilities=\['analyze_logs', …\]"):
        take(transactions, "bob")
    assert take(transactions, "dan").claimed
    assert stands(transactions) == ("running", "dan")


def test_who_says_later_that_he_can_is_told_of_what_is_open_and_of_nothing_else(transactions: Transactions, hand_out: Any) -> None:
    for slug in ("open", "taken", "ended"):
        hand_out(slug, capability="analyze_logs")
    with transactions.begin("bob") as session:
        cop.update_state(session, "Here", able=["analyze_logs"])
    assert [told.split(" ")[1] for told in inbox(transactions, "bob")] == ["open", "taken", "ended"]
    take(transactions, "bob", "taken")
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "ended")
    with transactions.begin("dan") as session:
        cop.update_state(session, "Here", able=["analyze_logs"])
    assert [told.split(" ")[1] for told in inbox(transactions, "dan")] == ["open"]
    with transactions.begin("ada") as session:
        assert tasks.claimants(session, tasks.find(session, "open")) == 2


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"capability": "analyze_logs", "executor": "node"}, "capability: got 'analyze_logs', wants a task of agents"),
        ({"capability": "analyze_logs", "agent": "bob"}, "capability: got 'analyze_logs', wants no capability where agent is given"),
        ({"capability": "no such"}, "capability: got 'no such'"),
        ({"executor": "person", "agent": "bob"}, "agent: got 'bob', wants a person .* bob is of the role developer"),
        ({"executor": "person", "requirements": {"role": "analyst"}}, "role: got 'analyst', wants no role, or human"),
        ({"timeout_s": 0.5}, "timeout_s: got 0.5, wants 1 to 2592000 seconds"),
        ({"look_up": True}, "look_up: got True, wants a task that a node's model answers"),
        ({"look_up": True, "executor": "node", "task_type": "report"}, "look_up: got True"),
    ],
)
def test_terms_that_do_not_fit_are_named(hand_out: Any, terms: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        hand_out(**terms)


def test_what_is_left_to_a_person_is_taken_by_no_program(transactions: Transactions, hand_out: Any) -> None:
    with transactions.begin("test:setup") as session:
        agents.add(session, "pia", "human")
    task = hand_out(executor="person")
    with transactions.begin("ada") as session:
        assert tasks.claimants(session, task) == 0
        conversations.open_for(session, "release", ["pia"])
        assert tasks.claimants(session, task) == 1
    for name in ("bob", "ada"):
        with pytest.raises(Refused, match="task t is for a person; leave it to an agent of the role human"):
            take(transactions, name)
    with transactions.begin("ada") as session, pytest.raises(InvalidInput, match="a person for task t"):
        assignments.assign(session, "bob", "developer", "t", conversation_id="release")
    token = take(transactions, "pia").fencing_token
    with transactions.begin("pia") as session:
        task_claims.complete(session, "t", fencing_token=token or 0, result={"looked": "fine"})
    assert stands(transactions) == ("completed", "pia")


def test_a_task_that_is_not_done_in_time_expires_and_who_had_it_and_who_asked_are_told(transactions: Transactions, hand_out: Any) -> None:
    task = hand_out(timeout_s=90)
    assert timedelta(seconds=89) < task.expires_at - task.created_at < timedelta(seconds=91)
    token = take(transactions, "bob").fencing_token
    assert end_what_is_over(transactions) == []
    by_hand(transactions, "UPDATE agent_tasks SET expires_at = clock_timestamp()")
    assert end_what_is_over(transactions) == [True]
    assert end_what_is_over(transactions) == []
    assert stands(transactions) == ("expired", "bob")
    with pytest.raises(Conflict, match="task t is expired already"), transactions.begin("bob") as session:
        task_claims.complete(session, "t", fencing_token=token or 0, result={})
    with pytest.raises(Conflict, match="task t is expired already"):
        take(transactions, "dan")
    expired = "Task t has expired: it was not done within the 90 s that it had."
    assert inbox(transactions, "bob")[-1] == inbox(transactions, "ada")[-1] == expired
    assert expired not in inbox(transactions, "dan")
    with transactions.begin("test:hand") as session:
        [event] = session.scalars(select(Event).where(Event.type == "task.expired"))
        assert (event.actor, event.payload["result"]) == ("service:beat", {"error": "it was not done within the 90 s that it had"})


def test_the_time_of_a_task_counts_from_when_it_may_begin(transactions: Transactions, database: str, hand_out: Any) -> None:
    assert hand_out(who="bob", timeout_s=60, requires_approval=True).expires_at is None
    with psycopg.connect(database) as superuser:
        superuser.execute("UPDATE agent_tasks SET created_at = created_at - interval '1 day'")
    assert end_what_is_over(transactions) == []
    with transactions.begin("ada") as session:
        approved = approvals.decide(session, "t", Decision.APPROVE)
    with transactions.begin("test:hand") as session:
        left = session.scalar(text("SELECT expires_at - clock_timestamp() FROM agent_tasks"))
    assert approved.status == "pending"
    assert timedelta(0) < left <= timedelta(seconds=60)


def test_what_expires_on_a_node_is_not_run_any_more(transactions: Transactions, hand_out: Any, publisher: Any) -> None:
    task = hand_out(executor="node", timeout_s=60)
    [execution] = publisher.published
    by_hand(transactions, "UPDATE agent_tasks SET expires_at = clock_timestamp()")
    assert end_what_is_over(transactions) == [True]
    assert publisher.cancelled == [execution]
    with transactions.begin("node:aorus") as session:
        assert task_ends.start_on_node(session, task.id, "aorus") is None
        assert not task_ends.end_on_node(session, task.id, result={"text": "late"})


def test_a_completion_and_the_end_of_the_time_make_one_end(transactions: Transactions, hand_out: Any) -> None:
    for number in range(10):
        slug = f"race-{number}"
        hand_out(slug, timeout_s=60)
        token = take(transactions, "bob", slug).fencing_token or 0
        by_hand(transactions, "UPDATE agent_tasks SET expires_at = clock_timestamp() WHERE slug = :slug", slug=slug)

        def complete(slug: str = slug, token: int = token) -> str:
            try:
                with transactions.begin("bob") as session:
                    return task_claims.complete(session, slug, fencing_token=token, result={}).status
            except (Conflict, Refused):
                return "late"

        with ThreadPoolExecutor(2) as pool:
            completed, expired = pool.submit(complete), pool.submit(end_what_is_over, transactions)
            ended = (completed.result(), True in expired.result())
        assert ended in {("completed", False), ("late", True)}
        assert stands(transactions, slug)[0] == ("expired" if ended[1] else "completed")


def test_a_fourth_in_a_conversation_gets_a_warning(transactions: Transactions, chartered: Any) -> None:
    from federation.charter import charter_text

    def bring_in(name: str) -> str | None:
        with transactions.begin("ada") as session:
            return messages.send(session, "hello", to=name, conversation_id="group").warning

    assert [bring_in(name) for name in ("bob", "dan", "bob")] == [None, None, None]
    warning = bring_in("eve")
    assert warning is not None
    assert warning.startswith("4 members are in group now, and roles are clear among 3 at most: give each a role with federation_assign_role")
    assert bring_in("eve") is None
    with transactions.begin("test:setup") as session:
        agents.add(session, "fay", "developer")
    chartered(charter_text().replace("at_most = 3", "at_most = 0"))
    assert bring_in("fay") is None


def test_what_was_looked_up_goes_with_the_task_to_the_node_that_does_it(transactions: Transactions, hand_out: Any, publisher: Any) -> None:
    task = hand_out(executor="node", look_up=True, requirements={"role": "lead"}, timeout_s=60)
    [first] = publisher.published
    chunks = [uuid.uuid4(), uuid.uuid4()]
    for _ in range(2):
        with transactions.begin("ada", execution_id=first) as session:
            tasks.send_with_sources(session, session.get_one(AgentTask, task.id), chunks)
    with transactions.begin("test:hand") as session:
        rows = session.execute(text("SELECT id, task_name, kwargs, requirements FROM executions ORDER BY created_at")).all()
    assert [(row.task_name, row.requirements) for row in rows] == [
        (tasks.LOOK_UP, {"tags": ["frag"], "engine": "minilm"}),
        (tasks.RUN_ON_NODE, {"role": "lead", "engine": "chat"}),
    ]
    assert rows[1].kwargs == {"task_id": str(task.id), "sources": [str(each) for each in chunks]}
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "t")
        assert {executions.state(session, row.id).state for row in rows} == {"cancelled"}
