"""A task that requires approval is parked, decided on once by somebody with the right, and goes on as if delegated then."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from federation.charter import charter_text
from federation.errors import Conflict, InvalidInput, Refused
from federation.services import agents, approvals, conversations, executions, inboxes, messages, task_claims, task_ends, task_lists, tasks
from federation.services.approvals import Decision
from federation.store.context import context
from federation.store.models.events import Event
from federation.store.models.executions import Execution, OutboxEntry
from federation.store.models.tasks import AgentTask

RACERS = 32


def parked(transactions, **options) -> str:
    """Let bob ask for something under the name `gate`."""
    with transactions.begin("bob") as session:
        task = tasks.delegate(session, "Restart the cache", slug="gate", requires_approval=True, **options)
        assert (task.status, task.assigned_to, task.requires_approval) == ("awaiting_approval", None, True)
        return str(task.id)


@pytest.mark.parametrize("requires_approval", [True, False])
@pytest.mark.parametrize("account", [2**53 + 1, 2.0**60, 1e23])
def test_what_nobody_could_sign_is_not_asked_for(transactions, account: float, requires_approval: bool) -> None:
    with transactions.begin("bob") as session:
        with pytest.raises(InvalidInput, match=r"parameters: got .*\d{16} .* as text"):
            tasks.delegate(session, "Pay", requires_approval=requires_approval, parameters={"of": [{"account": account}]})
        as_text = {"account": str(account), "share": 0.1, "whole": 1.0}
        assert tasks.delegate(session, "Pay", requires_approval=requires_approval, parameters=as_text).parameters == as_text


def told(transactions, task_id: str) -> list[tuple[str, str]]:
    with transactions.begin("test:hand") as session:
        query = select(Event.type, Event.actor).where(Event.stream == f"task:{task_id}").order_by(Event.position)
        return [(type_, actor) for type_, actor in session.execute(query)]


def count(transactions, model: type) -> int:
    with transactions.begin("test:hand") as session:
        return session.scalars(select(func.count()).select_from(model)).one()


def decide(transactions, who: str, decision: Decision, reason: str = "") -> AgentTask:
    with transactions.begin(who) as session:
        return approvals.decide(session, "gate", decision, reason=reason)


def inbox(transactions, who: str) -> list[tuple[str, str]]:
    with transactions.begin(who) as session:
        return [(each.sender, each.content) for each in inboxes.inbox(session).messages]


def test_parked_nodes_task_has_no_execution_until_it_is_approved_and_then_runs_in_the_name_of_who_asked(transactions, publisher) -> None:
    task_id = parked(transactions, executor="node", priority=8)
    assert (count(transactions, Execution), count(transactions, OutboxEntry), publisher.published) == (0, 0, [])
    task = decide(transactions, "ada", Decision.APPROVE, "tested on a copy")
    assert (task.status, task.decided_by, task.decision_reason) == ("pending", "ada", "tested on a copy")
    with transactions.begin("test:hand") as session:
        execution = session.scalars(select(Execution)).one()
        assert (execution.actor, execution.updated_by, execution.trace_id, execution.priority) == ("bob", "bob", task.trace_id, 8)
        assert executions.of_task(session, task.id) == publisher.published == [execution.id]
    assert told(transactions, task_id) == [("task.created", "bob"), ("task.approved", "ada")]
    with transactions.begin("node:aorus") as session:
        assert task_ends.start_on_node(session, task.id, "aorus") is not None


def test_approved_task_of_an_agent_is_assigned_and_announced_as_if_delegated_then(transactions) -> None:
    task_id = parked(transactions, agent="dan")
    with pytest.raises(Refused, match="Propose before you implement: task gate awaits approval"), transactions.begin("dan") as session:
        task_claims.claim(session, "gate", description="", ttl_s=60)
    assert inbox(transactions, "dan") == []
    task = decide(transactions, "ada", Decision.APPROVE)
    assert (task.status, task.assigned_to) == ("assigned", "dan")
    assert told(transactions, task_id) == [("task.created", "bob"), ("task.approved", "ada"), ("task.assigned", "bob")]
    assert inbox(transactions, "dan") == [("bob", "Task gate: Restart the cache\nClaim it with federation_claim_task('gate').")]
    assert inbox(transactions, "bob") == [("ada", "Task gate was approved.")]
    with transactions.begin("dan") as session:
        assert task_claims.claim(session, "gate", description="", ttl_s=60).claimed


def test_who_approves_speaks_in_his_own_name_again_afterwards(transactions) -> None:
    parked(transactions, executor="node")
    with transactions.begin("ada") as session:
        trace_id = context(session).trace_id
        approvals.decide(session, "gate", Decision.APPROVE)
        messages.send(session, "It runs.")
        assert (context(session).actor, context(session).trace_id) == ("ada", trace_id)
    assert inbox(transactions, "dan") == [("ada", "It runs.")]


def test_rejected_task_ends_with_the_reason(transactions, publisher) -> None:
    task_id = parked(transactions, executor="node")
    with pytest.raises(InvalidInput, match="reason: got ' ', wants why it is rejected"):
        decide(transactions, "ada", Decision.REJECT, " ")
    task = decide(transactions, "ada", Decision.REJECT, "not on a Friday")
    assert (task.status, task.result) == ("cancelled", {"rejected_by": "ada", "reason": "not on a Friday"})
    assert task.completed_at is not None
    assert told(transactions, task_id) == [("task.created", "bob"), ("task.rejected", "ada")]
    assert inbox(transactions, "bob") == [("ada", "Task gate was rejected: not on a Friday")]
    assert (count(transactions, Execution), publisher.published) == (0, [])


def test_of_32_who_decide_at_once_one_does_and_one_execution_is_recorded(transactions, publisher) -> None:
    parked(transactions, executor="node")
    names = [f"person-{number}" for number in range(RACERS)]
    with transactions.begin("test:setup") as session:
        for name in names:
            agents.add(session, name, "human")

    def race(number: int) -> Decision | None:
        decision = Decision.REJECT if number % 4 == 0 else Decision.APPROVE
        try:
            with transactions.begin(names[number]) as session:
                approvals.decide(session, "gate", decision, reason=names[number])
        except Conflict:
            return None
        return decision

    with ThreadPoolExecutor(RACERS) as pool:
        won = [decision for decision in pool.map(race, range(RACERS)) if decision is not None]
    assert len(won) == 1
    recorded = 1 if won == [Decision.APPROVE] else 0
    assert (count(transactions, Execution), len(publisher.published)) == (recorded, recorded)
    with transactions.begin("test:hand") as session:
        decided = session.scalars(select(Event.type).where(Event.type.in_(["task.approved", "task.rejected"]))).all()
        task = session.scalars(select(AgentTask)).one()
    assert decided == ["task.approved" if won == [Decision.APPROVE] else "task.rejected"]
    assert task.decided_by == task.decision_reason


def test_same_decision_again_changes_nothing_and_another_is_a_conflict(transactions, publisher) -> None:
    task_id = parked(transactions, executor="node")
    for _ in range(2):
        assert decide(transactions, "ada", Decision.APPROVE, "fine").status == "pending"
    assert len(publisher.published) == 1
    assert len(told(transactions, task_id)) == 2
    with pytest.raises(Conflict, match="task gate was approved by ada already, and is pending"):
        decide(transactions, "ada", Decision.REJECT, "after all not")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="plain")
    with pytest.raises(Conflict, match="task plain is pending and awaits no approval"), transactions.begin("ada") as session:
        approvals.decide(session, "plain", Decision.APPROVE)


def test_who_may_not_approve_and_who_asked_are_refused(transactions, chartered: Callable[[str], None]) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Restart the cache", slug="gate", requires_approval=True)
        tasks.find(session, "gate")
    says = r"^Propose before you implement: bob, .* may not decide on tasks that await approval; lead or human may: ask one of them"
    with pytest.raises(Refused, match=says):
        decide(transactions, "bob", Decision.APPROVE)
    with pytest.raises(Refused, match=r"^Propose before you implement: ada, .* oneself; no role may: ask an operator to decide"):
        decide(transactions, "ada", Decision.APPROVE)
    chartered(charter_text().replace('"approve", "cancel"]', '"approve", "approve_own", "cancel"]', 1))
    assert decide(transactions, "ada", Decision.APPROVE).decided_by == "ada"


def test_who_waits_for_whom_is_told_to_members_alone(transactions) -> None:
    with transactions.begin("test:setup") as session:
        agents.add(session, "hal", "human")
    task_id = parked(transactions, executor="node", conversation_id="quiet")
    with transactions.begin("bob") as session:
        [waiting] = approvals.waiting(session)
        assert (str(waiting.task_id), waiting.slug, waiting.asked_by, waiting.waits_for) == (task_id, "gate", "bob", [])
        task = tasks.find(session, "gate")
        assert approvals.waits_for(session, task) == "the approval of lead or human, of whom none is here"
        conversations.open_for(session, "quiet", ["hal", "ada", "dan"])
        assert approvals.waits_for(session, task) == "the approval of ada or hal"
    with transactions.begin("eve") as session:
        assert approvals.waiting(session) == []
    with transactions.begin("hal") as session:
        assert [each.slug for each in approvals.waiting(session)] == ["gate"]
        approvals.decide(session, "gate", Decision.APPROVE)
        assert approvals.waiting(session) == []


def test_who_decides_sees_all_that_was_asked_for(transactions) -> None:
    when = datetime(2099, 1, 31, 17, tzinfo=UTC)
    given = {"parameters": {"then": "drop the table"}, "priority": 8, "task_type": "remediate", "requires_approval": True}
    with transactions.begin("bob") as session:
        for_a_node = {"executor": "node", "requirements": {"role": "developer"}, "start_at": when}
        asked = {
            "on-a-node": tasks.delegate(session, "Restart the cache", slug="on-a-node", **for_a_node, **given),
            "by-eve": tasks.delegate(session, "Restart the cache", slug="by-eve", agent="eve", **given),
        }
    with transactions.begin("ada") as session:
        shown = {one.slug: asdict(one) for one in approvals.waiting(session)}
    # All of them require approval; and what is empty is left out.
    columns = {*tasks._TOLD, "task_type", "created_by"} - {"requires_approval"}
    for slug, task in asked.items():
        seen = {**shown[slug], **shown[slug]["terms"], "created_by": shown[slug]["asked_by"]}
        if task.start_at is not None:
            seen["start_at"] = datetime.fromisoformat(seen["start_at"])
        assert {name: seen.get(name) for name in columns} == {name: getattr(task, name) or None for name in columns}
        assert seen["parameters"] == {"then": "drop the table"}
    assert shown["on-a-node"]["terms"]["start_at"] == "2099-01-31T17:00:00+00:00"


def test_operator_decides_without_being_an_agent(transactions, publisher) -> None:
    task_id = parked(transactions, requirements={"role": "developer"})
    with transactions.begin("cli:root") as session:
        [task] = task_lists.anywhere(session, "gate")
        assert approvals.settle(session, task, Decision.APPROVE, reason="").status == "pending"
    assert told(transactions, task_id) == [("task.created", "bob"), ("task.approved", "cli:root")]
    assert [content.partition("\n")[0] for _, content in inbox(transactions, "dan")] == ["Task gate for the role developer: Restart the cache"]


def test_time_to_begin_is_kept_while_it_waits_and_a_repeated_request_is_the_same(transactions) -> None:
    when = datetime(2099, 1, 31, 17, tzinfo=UTC)
    assert parked(transactions, executor="node", start_at=when) == parked(transactions, executor="node", start_at=when)
    decide(transactions, "ada", Decision.APPROVE)
    with transactions.begin("bob") as session:
        assert session.scalars(select(Execution.due_at)).all() == [when]
        again = tasks.delegate(session, "Restart the cache", slug="gate", requires_approval=True, executor="node", start_at=when)
        assert again.status == "pending"
    with pytest.raises(Conflict, match=r"\(requires_approval differ\)"), transactions.begin("bob") as session:
        tasks.delegate(session, "Restart the cache", slug="gate", executor="node", start_at=when)


def test_who_asked_may_take_it_back(transactions) -> None:
    parked(transactions, executor="node")
    with transactions.begin("bob") as session:
        assert task_ends.cancel(session, "gate").status == "cancelled"
    with pytest.raises(Conflict, match="task gate is cancelled and awaits no approval"):
        decide(transactions, "ada", Decision.APPROVE)
