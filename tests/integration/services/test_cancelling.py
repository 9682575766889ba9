"""Who may cancel a task, what ends with it, and what becomes of one that is approved, claimed or sent at the same moment."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from federation.errors import Conflict, Refused
from federation.services import approvals, conversations, executions, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.store import event_log, outbox
from federation.store.models.claims import Claim
from federation.store.models.events import Event
from federation.store.models.executions import Execution, OutboxEntry
from federation.store.models.tasks import AgentTask

ROUNDS = 20


def test_a_task_is_cancelled_by_its_author_or_the_lead_and_ends_with_its_execution(transactions, publisher) -> None:
    with transactions.begin("bob") as session:
        task = tasks.delegate(session, "d", slug="unwanted", executor="node", conversation_id="project", agent=None)
        conversations.open_for(session, "project", ["ada", "dan"])
        [execution] = executions.of_task(session, task.id)
    with transactions.begin("dan") as session, pytest.raises(Refused, match="lead or human may: ask them, or bob, who delegated task unwanted"):
        task_ends.cancel(session, "unwanted")
    with transactions.begin("ada") as session:
        ended = task_ends.cancel(session, "unwanted", reason="found by other means")
        assert (ended.status, ended.result) == ("cancelled", {"cancelled_by": "ada", "reason": "found by other means"})
        assert executions.state(session, execution).state == "cancelled"
    assert publisher.cancelled == [execution]
    with transactions.begin("bob") as session:
        assert task_ends.cancel(session, "unwanted").status == "cancelled"
        assert not executions.cancel(session, execution, "again")
    assert publisher.cancelled == [execution]


def test_an_execution_is_cancelled_together_with_its_task(transactions) -> None:
    with transactions.begin("bob") as session:
        task = tasks.delegate(session, "d", slug="unwanted", executor="node")
        [identity] = executions.of_task(session, task.id)
        assert task_ends.cancel_execution(session, session.get_one(Execution, identity), reason="")
        session.refresh(task)
        assert task.status == "cancelled"


def test_a_cancelled_claim_is_worth_nothing(transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="unwanted", executor="agent")
    with transactions.begin("bob") as session:
        token = task_claims.claim(session, "unwanted", description="", ttl_s=60).fencing_token
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "unwanted")
    with transactions.begin("bob") as session, pytest.raises(Conflict, match="cancelled already"):
        task_claims.complete(session, "unwanted", fencing_token=token or 0, result={})


def parked(transactions: Any, slug: str) -> None:
    """Let bob ask for something that needs approval."""
    with transactions.begin("bob") as session:
        tasks.delegate(session, "Restart the cache", slug=slug, executor="node", requires_approval=True)


def approve(session: Any, slug: str) -> None:
    approvals.decide(session, slug, Decision.APPROVE, reason="fine")


def cancel(session: Any, slug: str) -> None:
    task_ends.cancel(session, slug, reason="not needed")


def wait_until_blocked(transactions: Any, pending: "Future[Any]") -> None:
    """Return as soon as the other transaction waits for ours."""
    deadline = time.monotonic() + 90
    with transactions.engine.connect() as connection:
        while not connection.execute(
            text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        ).scalar_one():
            connection.rollback()
            assert not pending.done(), f"it waited for nobody: {pending.exception()}"
            assert time.monotonic() < deadline, "nobody waits"


def racing(transactions: Any) -> Callable[[str, Any, str], bool]:
    """Return what two threads call to act at the same moment; it tells whether the one who calls came to it."""
    gate = threading.Barrier(2)

    def at_once(who: str, act: Any, slug: str) -> bool:
        gate.wait()
        try:
            with transactions.begin(who) as session:
                act(session, slug)
        except Conflict:
            return False
        return True

    return at_once


def assert_cancelled(transactions: Any, publisher: Any, slug: str, *, after_approval: bool) -> None:
    """Compare the task, its story, its executions, the outbox and what was handed over for sending."""
    with transactions.begin("test:hand") as session:
        task = session.scalars(select(AgentTask).where(AgentTask.slug == slug)).one()
        assert (task.status, task.result) == ("cancelled", {"cancelled_by": "bob", "reason": "not needed"})
        assert task.decided_by == ("ada" if after_approval else None)
        story = list(session.scalars(select(Event.type).where(Event.stream == f"task:{task.id}").order_by(Event.position)))
        assert story == ["task.created", *(["task.approved"] if after_approval else []), "task.cancelled"]
        found = executions.of_task(session, task.id)
        assert len(found) == after_approval
        for execution in found:
            assert executions.state(session, execution).state == "cancelled"
            assert execution in publisher.cancelled
            assert session.scalars(select(OutboxEntry).where(OutboxEntry.execution_id == execution)).all() == []
            story = list(session.scalars(select(Event.type).where(Event.stream == f"execution:{execution}").order_by(Event.position)))
            assert story == ["execution.recorded", "execution.cancelled"]


def test_who_cancels_while_another_approves_ends_the_execution_of_the_approval_too(transactions: Any, publisher: Any) -> None:
    parked(transactions, "gate")

    def cancel_it() -> None:
        with transactions.begin("bob") as session:
            cancel(session, "gate")

    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("ada") as session:
            approve(session, "gate")
            cancelling = pool.submit(cancel_it)
            wait_until_blocked(transactions, cancelling)
        cancelling.result()
    assert_cancelled(transactions, publisher, "gate", after_approval=True)


def test_who_approves_while_another_cancels_is_told_and_nothing_runs(transactions: Any, publisher: Any) -> None:
    parked(transactions, "gate")

    def approve_it() -> None:
        with transactions.begin("ada") as session:
            approve(session, "gate")

    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("bob") as session:
            cancel(session, "gate")
            approving = pool.submit(approve_it)
            wait_until_blocked(transactions, approving)
        with pytest.raises(Conflict, match="task gate is cancelled and awaits no approval"):
            approving.result()
    assert_cancelled(transactions, publisher, "gate", after_approval=False)
    assert publisher.published == []


def test_of_approving_and_cancelling_at_once_one_is_first_and_all_agree_on_which(transactions: Any, publisher: Any) -> None:
    at_once = racing(transactions)
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            slug = f"gate-{number}"
            parked(transactions, slug)
            approving, cancelling = pool.submit(at_once, "ada", approve, slug), pool.submit(at_once, "bob", cancel, slug)
            assert cancelling.result()
            assert_cancelled(transactions, publisher, slug, after_approval=approving.result())


def open_to_all(transactions: Any, slug: str, *, claimed: str | None) -> None:
    """Let ada ask for something that any agent may claim; bob holds it, had it and gave it back, let it lapse, or never had it."""
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Profile the memory", slug=slug)
    if claimed is None:
        return
    with transactions.begin("bob") as session:
        claim(session, slug)
    if claimed == "released":
        with transactions.begin("bob") as session:
            assert task_claims.release(session, slug)
    elif claimed == "lapsed":
        with transactions.begin("test:hand") as session:
            session.execute(text("UPDATE claims SET expires_at = clock_timestamp()"))


def claim(session: Any, slug: str) -> None:
    assert task_claims.claim(session, slug, description="", ttl_s=60).claimed


def assert_nobody_holds(transactions: Any, slug: str, *, after_claim: bool) -> None:
    """Compare a cancelled task, who has or had it, and its story."""
    with transactions.begin("test:hand") as session:
        task = session.scalars(select(AgentTask).where(AgentTask.slug == slug)).one()
        assert task.status == "cancelled"
        row = session.scalars(select(Claim).where(Claim.resource == f"task:{task.id}")).one_or_none()
        assert row is None or row.released_at is not None
        told = select(Event.type).where(Event.stream.in_([f"task:{task.id}", f"claim:task:{task.id}"])).order_by(Event.sequence)
        story = list(session.scalars(told))
    assert story[-1] == "task.cancelled"
    assert (story[-2] == "claim.released") is after_claim


@pytest.mark.parametrize("claimed", [None, "released", "lapsed", "held"])
def test_who_cancels_while_a_claim_is_made_ends_the_claim_too(transactions: Any, claimed: str | None) -> None:
    open_to_all(transactions, "work", claimed=claimed)

    def cancel_it() -> None:
        with transactions.begin("ada") as session:
            cancel(session, "work")

    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("bob" if claimed == "held" else "dan") as session:
            claim(session, "work")
            cancelling = pool.submit(cancel_it)
            wait_until_blocked(transactions, cancelling)
        cancelling.result()
    assert_nobody_holds(transactions, "work", after_claim=True)


@pytest.mark.parametrize("claimed", [None, "released", "lapsed", "held"])
def test_who_claims_while_another_cancels_is_told_and_holds_nothing(transactions: Any, claimed: str | None) -> None:
    open_to_all(transactions, "work", claimed=claimed)

    def claim_it() -> None:
        with transactions.begin("bob" if claimed == "held" else "dan") as session:
            claim(session, "work")

    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("ada") as session:
            cancel(session, "work")
            claiming = pool.submit(claim_it)
            wait_until_blocked(transactions, claiming)
        with pytest.raises(Conflict, match="task work is cancelled already"):
            claiming.result()
    assert_nobody_holds(transactions, "work", after_claim=claimed in {"lapsed", "held"})


def test_of_claiming_and_cancelling_at_once_no_claim_stays(transactions: Any) -> None:
    at_once = racing(transactions)
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            slug, former = f"work-{number}", [None, "released"][number % 2]
            open_to_all(transactions, slug, claimed=former)
            claiming, cancelling = pool.submit(at_once, "dan", claim, slug), pool.submit(at_once, "ada", cancel, slug)
            assert cancelling.result()
            assert_nobody_holds(transactions, slug, after_claim=claiming.result())


def recorded(transactions: Any) -> uuid.UUID:
    """Let bob ask for an execution that waits in the outbox."""
    with transactions.begin("bob") as session:
        return outbox.record(session, "some.task", {})


def entries(transactions: Any, execution: uuid.UUID) -> int:
    with transactions.begin("test:hand") as session:
        return len(session.scalars(select(OutboxEntry).where(OutboxEntry.execution_id == execution)).all())


def test_who_cancels_what_is_being_sent_waits_for_the_sending_and_cancels_what_was_sent(transactions: Any, publisher: Any) -> None:
    execution = recorded(transactions)

    def cancel_it() -> bool:
        with transactions.begin("bob") as session:
            return executions.cancel(session, execution, "not needed")

    with ThreadPoolExecutor(1) as pool:
        # As the publisher does: it holds the entry while it speaks to the broker, and then writes where it has sent it.
        with transactions.begin("service:outbox") as session:
            entry = session.scalars(select(OutboxEntry).where(OutboxEntry.execution_id == execution).with_for_update()).one()
            cancelling = pool.submit(cancel_it)
            wait_until_blocked(transactions, cancelling)
            session.execute(update(Execution).where(Execution.id == execution).values(node="baby", sent_at=func.clock_timestamp()))
            session.delete(entry)
            event_log.append(session, "execution.placed", f"execution:{execution}", payload={"node": "baby", "task_name": "test", "requirements": {}})
        assert cancelling.result()
    with transactions.begin("bob") as session:
        stands = executions.state(session, execution)
    assert (stands.state, stands.node, entries(transactions, execution)) == ("cancelled", "baby", 0)
    assert publisher.cancelled == [execution]


def test_what_has_ended_and_is_to_be_sent_again_keeps_its_entry_and_is_not_cancelled(transactions: Any, publisher: Any) -> None:
    execution = recorded(transactions)
    with transactions.begin("test:hand") as session:
        ended = "insert into celery_results (task_id, state, date_done, expires_at) values (:id, 'FAILURE', now(), now() + interval '1 day')"
        session.execute(text(ended), {"id": str(execution)})
    with transactions.begin("bob") as session:
        assert not executions.cancel(session, execution, "not needed")
    assert (entries(transactions, execution), publisher.cancelled) == (1, [])
