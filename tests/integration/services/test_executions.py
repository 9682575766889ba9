"""What ended stays ended, also when its result is cleaned up."""

import pytest
from sqlalchemy import text

from federation.services import executions
from federation.store import outbox


@pytest.mark.parametrize(("result", "state"), [("SUCCESS", "completed"), ("FAILURE", "failed"), ("REVOKED", "cancelled")])
def test_an_execution_whose_result_has_expired_keeps_its_outcome(transactions, result: str, state: str) -> None:
    with transactions.begin("ada") as session:
        identity = outbox.record(session, "some.task", {})
        executions.record_delivery(session, identity, task_id=str(identity), task_name="some.task", worker="w", pid=1, redelivered=False)
        session.execute(text("delete from outbox"))
        row = {"id": str(identity), "state": result}
        session.execute(text("insert into celery_results (task_id, state, date_done, expires_at) values (:id, :state, now(), now())"), row)
    with transactions.begin("service:beat") as session:
        before = executions.state(session, identity)
        executions.keep_outcomes(session)
        session.execute(text("delete from celery_results"))
    with transactions.begin("ada") as session:
        after = executions.state(session, identity)
        again = executions.record_delivery(session, identity, task_id=str(identity), task_name="some.task", worker="w", pid=1, redelivered=True)
    assert (before.state, after.state) == (state, state)
    assert after.finished_at == before.finished_at
    assert again.result_state == result
