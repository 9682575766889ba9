"""What ended stays ended, also when its result is cleaned up; and which deliveries count as repeated."""

import pytest
from sqlalchemy import text

from federation.services import executions
from federation.store import outbox


@pytest.mark.parametrize(("result", "state"), [("SUCCESS", "completed"), ("FAILURE", "failed"), ("REVOKED", "cancelled")])
def test_an_execution_whose_result_has_expired_keeps_its_outcome(transactions, result: str, state: str) -> None:
    with transactions.begin("cli:ada") as session:
        identity = outbox.record(session, "some.task", {})
        executions.record_delivery(session, identity, task_id=str(identity), task_name="some.task", worker="w", pid=1, redelivered=False)
        session.execute(text("delete from outbox"))
        row = {"id": str(identity), "state": result}
        session.execute(text("insert into celery_results (task_id, state, date_done, expires_at) values (:id, :state, now(), now())"), row)
    with transactions.begin("service:beat") as session:
        before = executions.state(session, identity)
        executions.keep_outcomes(session)
        session.execute(text("delete from celery_results"))
    with transactions.begin("cli:ada") as session:
        after = executions.state(session, identity)
        again = executions.record_delivery(session, identity, task_id=str(identity), task_name="some.task", worker="w", pid=1, redelivered=True)
    assert (before.state, after.state) == (state, state)
    assert after.finished_at == before.finished_at
    assert again.result_state == result


def test_a_delivery_is_repeated_where_the_same_message_was_delivered_before(transactions) -> None:
    def delivered(*, redelivered: bool, **message: int) -> int:
        with transactions.begin("cli:ada") as session:
            return executions.record_delivery(
                session, identity, task_id=str(identity), task_name="some.task", worker="w", pid=1, redelivered=redelivered, **message
            ).redeliveries

    with transactions.begin("cli:ada") as session:
        identity = outbox.record(session, "some.task", {})
    # Marked by the broker, and never begun before.
    assert delivered(redelivered=True) == 0
    assert delivered(redelivered=True) == 1
    # Given back in good order, as a new message.
    assert delivered(redelivered=False, returns=1) == 1
    # The same execution sent twice.
    assert delivered(redelivered=False, returns=1) == 1
    assert delivered(redelivered=True, returns=1) == 2
    # Tried again: that message was had in hand and not begun.
    assert delivered(redelivered=True, returns=1, retries=1) == 2
