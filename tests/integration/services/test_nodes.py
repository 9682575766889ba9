"""Counting the unfinished work of nodes: right at any time, and cheap however much has ended."""

import uuid

import psycopg
import pytest
from sqlalchemy import event, text

from federation.services import executions, nodes
from federation.store import outbox

ENDED = 20_000
_FILL = """
    WITH made AS (
        INSERT INTO executions (id, task_name, kwargs, requirements, priority, actor, trace_id, node, sent_at)
        SELECT gen_random_uuid(), 'some.task', '{}', '{}', 5, 'ada', 'x', 'busy', clock_timestamp() FROM generate_series(1, %s)
        RETURNING id
    )
    INSERT INTO celery_results (task_id, state, date_done, expires_at) SELECT id::text, 'SUCCESS', now(), now() + interval '1 day' FROM made
"""


@pytest.fixture(autouse=True)
def _busy(transactions) -> None:
    with transactions.begin("cli:ada") as session:
        announced = nodes.Announcement("busy", "lead", (), (), (), (), (), 2, "host", 1, uuid.uuid4(), simulated=False)
        nodes.announce(session, announced)


def sent(session) -> uuid.UUID:
    identity = outbox.record(session, "some.task", {})
    session.execute(text("UPDATE executions SET node = 'busy', sent_at = clock_timestamp() WHERE id = :id"), {"id": identity})
    return identity


def ends(session, identity: uuid.UUID, state: str) -> None:
    values = {"id": str(identity), "state": state}
    session.execute(text("INSERT INTO celery_results (task_id, state, date_done, expires_at) VALUES (:id, :state, now(), now())"), values)


def outstanding(session) -> int:
    return nodes.views(session, stale_s=60)[0].outstanding


@pytest.mark.parametrize(("state", "left"), [("SUCCESS", 1), ("FAILURE", 1), ("REVOKED", 1), ("RETRY", 2)])
def test_an_execution_that_ended_is_no_load_whether_that_is_noted_or_not(transactions, state: str, left: int) -> None:
    with transactions.begin("cli:ada") as session:
        first, _ = sent(session), sent(session)
        assert (outstanding(session), nodes.load(session, "busy")) == (2, nodes.Load(running=0, queued=2))
        ends(session, first, state)
        assert (outstanding(session), nodes.load(session, "busy")) == (left, nodes.Load(running=0, queued=left))
        executions.note_outcomes(session)
        assert (outstanding(session), nodes.load(session, "busy")) == (left, nodes.Load(running=0, queued=left))


def test_a_success_after_a_failure_is_kept_when_the_result_goes(transactions) -> None:
    with transactions.begin("cli:ada") as session:
        identity = sent(session)
        ends(session, identity, "FAILURE")
        executions.note_outcomes(session)
        session.execute(text("UPDATE celery_results SET state = 'SUCCESS'"))
        executions.keep_outcomes(session)
        session.execute(text("DELETE FROM celery_results"))
        session.execute(text("DELETE FROM outbox"))
        assert executions.state(session, identity).state == "completed"


def test_what_has_ended_is_not_walked_through_to_count_the_rest(transactions, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("SELECT set_config('federation.actor', 'test', false)")
        owner.execute(_FILL, (ENDED,))
        with transactions.begin("service:beat") as session:
            executions.note_outcomes(session)
            sent(session)
        owner.execute("VACUUM ANALYZE executions, celery_results")

    asked = []
    event.listen(transactions.service, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    with transactions.begin("cli:ada") as session:
        assert nodes.load(session, "busy") == nodes.Load(running=0, queued=1)
        assert outstanding(session) == 1
    with transactions.begin("cli:ada") as session:
        for statement, parameters in [one for one in asked if "FROM executions" in one[0]]:
            [explained] = session.connection().exec_driver_sql("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters).scalar_one()
            # A walk through the executions alone reads 250 pages. It is some 30, and 84 were seen where a snapshot kept VACUUM from its work.
            assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 125, explained
    assert len(asked) > 2
