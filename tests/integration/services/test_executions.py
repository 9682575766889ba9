"""What ended stays ended, also when its result is cleaned up; and which deliveries count as repeated."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from federation.services import executions, inference, nodes
from federation.services.nodes import Announcement
from federation.store import event_log, outbox
from federation.store.models.executions import Execution
from federation.transaction import Transactions


@pytest.mark.parametrize(("result", "state"), [("SUCCESS", "completed"), ("FAILURE", "failed"), ("REVOKED", "cancelled")])
def test_an_execution_whose_result_has_expired_keeps_its_outcome(transactions, result: str, state: str) -> None:
    with transactions.begin("cli:ada") as session:
        identity = outbox.record(session, "some.task", {})
        told: Any = {"task_id": str(identity), "task_name": "some.task", "worker": "w", "pid": 1, "actor": "cli:ada", "trace_id": "t"}
        executions.record_delivery(session, identity, **told, redelivered=False)
        session.execute(text("delete from outbox"))
        row = {"id": str(identity), "state": result}
        session.execute(text("insert into celery_results (task_id, state, date_done, expires_at) values (:id, :state, now(), now())"), row)
    with transactions.begin("service:beat") as session:
        before = executions.state(session, identity)
        executions.keep_outcomes(session)
        session.execute(text("delete from celery_results"))
    with transactions.begin("cli:ada") as session:
        after = executions.state(session, identity)
        again = executions.record_delivery(session, identity, **told, redelivered=True)
    assert (before.state, after.state) == (state, state)
    assert after.finished_at == before.finished_at
    assert again.result_state == result


Delivered = Callable[..., executions.Recorded]


@pytest.fixture
def recorded(transactions: Transactions) -> uuid.UUID:
    with transactions.begin("cli:ada") as session:
        return outbox.record(session, "some.task", {})


@pytest.fixture
def delivered(transactions: Transactions, recorded: uuid.UUID) -> Delivered:
    """Hands one execution over to a node, as a message of this name with a signature of its own, unless one is given."""
    identity = recorded

    def deliver(message: str, *, marked: bool, node: str = "here", signature: str | None = None, **counts: int) -> executions.Recorded:
        who: Any = {"task_name": "some.task", "worker": f"{node}@host", "pid": 1, "actor": f"node:{node}", "trace_id": "t"}
        said = {"message_id": message, "signature": signature or f"signature of {message}", "redelivered": marked, **counts}
        with transactions.single() as session:
            return executions.record_delivery(session, identity, task_id=str(identity), **who, **said)

    return deliver


def test_a_delivery_is_repeated_where_the_same_message_was_delivered_before(delivered: Delivered) -> None:
    # Marked by the broker, and never begun before.
    assert delivered("a", marked=True).redeliveries == 0
    assert delivered("a", marked=True).redeliveries == 1
    # Given back in good order, as a new message.
    assert delivered("b", marked=False, returns=1).redeliveries == 1
    # The same execution sent twice.
    assert delivered("c", marked=False, returns=1).redeliveries == 1
    assert delivered("c", marked=True, returns=1).redeliveries == 2
    # Tried again: that message was had in hand and not begun.
    assert delivered("d", marked=True, returns=1, retries=1).redeliveries == 2


def test_the_mark_of_a_copy_counts_nothing(delivered: Delivered) -> None:
    delivered("a", marked=False)
    copies = [delivered(name, marked=True, signature="signature of a") for name in ("copy", "another", "a third")]
    assert [(copy.redeliveries, copy.copied) for copy in copies] == [(0, True)] * 3
    truly = delivered("a", marked=True)
    assert (truly.redeliveries, truly.copied) == (1, False)


def test_what_a_worker_gave_back_for_a_loss_counts_once_for_each_that_it_signed(delivered: Delivered) -> None:
    delivered("a", marked=False)
    assert delivered("b", marked=False, losses=1).redeliveries == 1
    assert delivered("copy of b", marked=True, losses=1, signature="signature of b").redeliveries == 1
    assert delivered("c", marked=False, losses=2).redeliveries == 2
    # A later try bears the count of the earlier.
    assert delivered("d", marked=False, losses=2, retries=1).redeliveries == 2


def test_what_was_taken_back_after_a_retry_is_not_taken_for_an_old_try(transactions: Transactions, recorded: uuid.UUID, delivered: Delivered) -> None:
    delivered("a", marked=False)
    delivered("b", marked=False, retries=1)
    assert delivered("a", marked=True).finished
    with transactions.begin("service:beat") as session:
        outbox.take_back(session, session.get_one(Execution, recorded), "no live node has tag=licensed")
    assert not delivered("c", marked=False).finished


def test_what_was_moved_is_repeated_and_a_copy_for_another_node_is_not(transactions: Transactions, delivered: Delivered) -> None:
    with transactions.begin("node:there") as session:
        nodes.announce(session, Announcement("there", "developer", (), (), (), (), (), 1, "there@host", 1, uuid.uuid4(), simulated=False))
    delivered("a", marked=False, node="there")
    assert delivered("copy", marked=True, node="elsewhere", signature="signature of a").redeliveries == 0
    delivered("a", marked=False, node="there")
    with transactions.begin("service:beat") as session:
        assert nodes.record_lost(session, stale_s=0) == ["there"]
    assert delivered("moved", marked=True, signature="signature of a").redeliveries == 1
    assert delivered("another", marked=True, signature="signature of a").redeliveries == 1
    # From a node that drowns, as the rebalancer records it; until then, and once it runs, a copy looks as it does.
    assert delivered("moved early", marked=True, node="third", signature="signature of a").redeliveries == 1
    delivered("a", marked=False)
    with transactions.begin("service:beat") as session:
        session.execute(text("UPDATE executions SET node = 'third', sent_at = clock_timestamp(), updated_by = 'service:beat'"))
        event_log.append(session, "execution.moved", "test", payload={"from": "there", "to": "third"})
    assert delivered("moved on", marked=True, node="third", signature="signature of a").redeliveries == 2
    assert delivered("yet another", marked=True, node="third", signature="signature of a").redeliveries == 2


def test_a_delivery_is_told_and_not_waited_for_until_it_is_on_the_disk(transactions: Transactions, recorded: uuid.UUID, delivered: Delivered) -> None:
    assert delivered("a", marked=False).number == 1
    told: Any = {"task_id": str(recorded), "task_name": "some.task", "worker": "w", "pid": 1, "actor": "node:there", "trace_id": "t"}
    with transactions.begin("node:there") as session:
        assert executions.record_delivery(session, recorded, redelivered=True, **told).number == 2
        assert session.scalar(text("SHOW synchronous_commit")) == "off"
    with transactions.begin("cli:ada") as session:
        assert session.scalar(text("SHOW synchronous_commit")) == "on"
        query = "SELECT actor, trace_id, payload FROM events WHERE stream = :stream AND type = 'execution.delivered' ORDER BY position"
        events = session.execute(text(query), {"stream": f"execution:{recorded}"}).all()
    numbers = {"version": 1, "task_name": "some.task", "pid": 1, "repeated": False}
    assert [tuple(event) for event in events] == [
        ("node:here", "t", {**numbers, "number": 1, "worker": "here@host", "redelivered": False}),
        ("node:there", "t", {**numbers, "number": 2, "worker": "w", "redelivered": True}),
    ]


def test_what_an_execution_tells_is_not_waited_for_until_it_is_on_the_disk_and_ends_with_a_cancellation(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        identity = outbox.record(session, "some.task", {})
    with transactions.begin("ada", execution_id=identity) as session:
        inference.tell_part(session, number=1, characters=5)
        assert session.scalar(text("SHOW synchronous_commit")) == "off"
    with transactions.begin("ada") as session:
        executions.cancel(session, identity, "not wanted")
    with pytest.raises(executions.Cancelled), transactions.begin("ada", execution_id=identity) as session:
        inference.tell_part(session, number=2, characters=9)
    with transactions.begin("cli:ada") as session:
        query = text("SELECT type, actor, payload FROM events WHERE stream = :stream AND type LIKE 'model%'")
        told = session.execute(query, {"stream": f"execution:{identity}"}).all()
    assert told == [("model.part", "ada", {"version": 1, "number": 1, "characters": 5})]
