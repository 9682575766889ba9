"""Who may cancel a task, and what ends with it."""

import pytest

from federation.errors import Conflict, Refused
from federation.services import conversations, executions, tasks
from federation.store.models.executions import Execution


def test_a_task_is_cancelled_by_its_author_or_the_lead_and_ends_with_its_execution(transactions, publisher) -> None:
    with transactions.begin("bob") as session:
        task = tasks.delegate(session, "d", slug="unwanted", executor="node", conversation_id="project", agent=None)
        conversations.open_for(session, "project", ["ada", "dan"])
        [execution] = executions.of_task(session, task.id)
    with transactions.begin("dan") as session, pytest.raises(Refused, match="lead or human may: ask them, or bob, who delegated task unwanted"):
        tasks.cancel(session, "unwanted")
    with transactions.begin("ada") as session:
        ended = tasks.cancel(session, "unwanted", reason="found by other means")
        assert (ended.status, ended.result) == ("cancelled", {"cancelled_by": "ada", "reason": "found by other means"})
        assert executions.state(session, execution).state == "cancelled"
    assert publisher.cancelled == [execution]
    with transactions.begin("bob") as session:
        assert tasks.cancel(session, "unwanted").status == "cancelled"
        assert not executions.cancel(session, execution, "again")
    assert publisher.cancelled == [execution]


def test_an_execution_is_cancelled_together_with_its_task(transactions) -> None:
    with transactions.begin("bob") as session:
        task = tasks.delegate(session, "d", slug="unwanted", executor="node")
        [identity] = executions.of_task(session, task.id)
        assert tasks.cancel_execution(session, session.get_one(Execution, identity), reason="")
        session.refresh(task)
        assert task.status == "cancelled"


def test_a_cancelled_claim_is_worth_nothing(transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="unwanted", executor="agent")
    with transactions.begin("bob") as session:
        token = tasks.claim(session, "unwanted", description="", ttl_s=60).fencing_token
    with transactions.begin("ada") as session:
        tasks.cancel(session, "unwanted")
    with transactions.begin("bob") as session, pytest.raises(Conflict, match="cancelled already"):
        tasks.complete(session, "unwanted", fencing_token=token or 0, result={})
