"""What a hostile node's login writes into rows of its work fills nobody's memory, and keeps nobody who reads them from the others."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import event, inspect

from federation.errors import RateLimited
from federation.services import (
    episodes,
    findings,
    graph,
    limits,
    messages,
    nodes,
    replay,
    replayed_events,
    sessions,
    summaries,
    summary_levels,
)
from federation.services.findings import Said
from federation.services.sessions import Start
from federation.store import event_order
from federation.transaction import Transactions
from tests.integration.conftest import BY_HAND
from tests.integration.local.test_node_roles import node, url
from tests.integration.local.test_node_writes import APPEND, announced, refused
from tests.integration.local.test_node_writes import hostile as its_own

__all__ = ["its_own", "node"]
pytestmark = pytest.mark.tampers
EXECUTION = "INSERT INTO executions (id, task_name, kwargs, requirements, priority, actor, trace_id, node, sent_at, updated_by) VALUES "


@pytest.fixture(name="hostile")
def by_hand(its_own: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """What its second role has open, in the name of who writes rows without events."""
    its_own.execute("SELECT set_config('federation.actor', %s, false)", [BY_HAND])
    return its_own


@pytest.fixture
def as_bob(database: str, node: str, hostile: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """What its first role has open, in an agent's name."""
    with psycopg.connect(url(database, node, "secret"), autocommit=True) as connection:
        connection.execute("SELECT set_config('federation.actor', 'bob', false)")
        yield connection


def test_no_event_that_it_tells_is_larger_than_it_looks(hostile: psycopg.Connection[Any]) -> None:
    identity = uuid.uuid4()
    # Packed by PostgreSQL this has a hundredth of its size, and as a line of the log six times as much.
    hostile.execute(
        EXECUTION + "(%s, 't', jsonb_build_object('x', repeat(chr(1), 2000000)), '{}', 5, 'bob', 't', NULL, NULL, 'node:evil')", [identity]
    )
    packed = "SELECT federation_append('node:evil', NULL, 'node.left', 'node:evil', NULL, NULL, kwargs, 't') FROM executions WHERE id = %s"
    refused(hostile, packed, identity)


def test_no_row_of_it_is_larger_than_its_work_needs(
    node: str, hostile: psycopg.Connection[Any], as_bob: psycopg.Connection[Any], transactions: Transactions
) -> None:
    with transactions.begin(f"node:{node}") as session:
        nodes.announce(session, announced(node))
    for column in (
        "hostname = repeat('x', 100000)",
        "tags = array_fill('x'::text, ARRAY[100000])",
        "load = jsonb_build_object('x', repeat('x', 100000))",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            hostile.execute(sql.SQL(f"UPDATE nodes SET {column}"))  # type: ignore[arg-type]
    for column in ("requirements", "actor", "trace_id", "task_name", "affinity"):
        values = {"task_name": "'t'", "requirements": "'{}'", "actor": "'bob'", "trace_id": "'t'", "affinity": "NULL"}
        values[column] = "jsonb_build_object('model', repeat('x', 100000))" if column == "requirements" else "repeat('x', 100000)"
        refused(
            hostile,
            f"INSERT INTO executions (id, kwargs, priority, updated_by, {', '.join(values)}) "
            f"VALUES (gen_random_uuid(), '{{}}', 5, 'node:evil', {', '.join(values.values())})",
        )
    with as_bob.transaction(force_rollback=True):
        as_bob.execute("SELECT federation_append('messages:commons', NULL, 'node.left', 'bob', 'commons', NULL, '{}', 't')")
        refused(
            as_bob,
            "INSERT INTO messages (conversation_id, position, sender, message_type, content, correlation_id, trace_id) "
            "VALUES ('commons', 1, 'bob', 'chat', repeat('x', 5000000), gen_random_uuid(), 't')",
        )
        refused(
            as_bob,
            "INSERT INTO messages (conversation_id, position, sender, audience, message_type, content, data, correlation_id, trace_id) "
            "VALUES ('commons', 1, 'bob', 'capability:x', 'task', 'x', '{\"task_id\": \"x\"}', gen_random_uuid(), 't')",
        )
    state = (
        "INSERT INTO cop_states (kind, subject, summary, action, data, updated_by) "
        "VALUES (%s, %s, 's', 'IDLE', %s, 'node:evil') ON CONFLICT (kind, subject) DO UPDATE SET data = excluded.data"
    )
    for kind, subject, data in (
        ("agent", "ada", "{}"),
        ("node", "other", "{}"),
        ("node", node, '{"queued": "x"}'),
        ("node", node, '{"queued": 1e400}'),
    ):
        refused(hostile, state, kind, subject, data)
    # What its work does write.
    hostile.execute(state, ["node", node, '{"running": 1, "queued": 20}'])
    hostile.execute("UPDATE nodes SET load = '{\"running\": 1}'")
    hostile.execute("INSERT INTO celery_results (task_id, state, result) VALUES (gen_random_uuid()::text, 'SUCCESS', repeat('x', 5000000))")


def test_what_moves_work_from_a_node_reads_no_arguments(node: str, hostile: psycopg.Connection[Any], transactions: Transactions) -> None:
    hostile.execute(EXECUTION + "(gen_random_uuid(), 't', '{}', '{}', 5, 'bob', 't', %s, now(), 'node:evil')", [node])
    with transactions.begin("service:beat") as session:
        [found] = nodes.movable(session, node)
        assert {"kwargs"} <= inspect(found).unloaded


def test_a_summary_of_an_absurd_level_costs_its_readers_nothing(hostile: psycopg.Connection[Any], transactions: Transactions, database: str) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "one", conversation_id="talk")
    told = []
    summary = (
        "INSERT INTO summaries (conversation_id, level, from_position, to_position, text, message_ids, method, model, model_digest, created_by) "
        "VALUES ('talk', 200, 1, 1, '', '[]', 'extractive', '', '', 'bob')"
    )
    refused(hostile, summary)
    with psycopg.connect(database) as root:
        root.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        root.execute(summary)
    with transactions.begin("ada") as session:
        event.listen(session.get_bind(), "after_cursor_execute", lambda *_: told.append(1))
        assert [each.level for each in summaries.read(session, "talk")] == [200]
        assert summary_levels.due(session, "talk") is None
    assert len(told) < 20


def test_a_finding_that_says_nothing_is_none_and_others_are_read(as_bob: psycopg.Connection[Any], transactions: Transactions, database: str) -> None:
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-9", Start(context={"task": "x"}))
    with transactions.begin("bob") as session:
        findings.post(session, "INC-9", Said(content="it runs on 10.0.0.7", category="observation"))
    finding = (
        "INSERT INTO agent_findings (session_id, position, finding_type, content, evidence, trace_id) "
        "SELECT s.id, 1, 'observation', %s, %s, 't' FROM agent_sessions s WHERE slug = 'INC-9'"
    )
    for content, evidence in (("{}", "[]"), ("[]", "[]"), ('{"text": 5}', "[]"), ('{"text": "x"}', "[5]"), ('{"text": "x"}', "{}")):
        refused(as_bob, finding, content, evidence)
    with transactions.begin("service:beat") as session:
        event_order.give_numbers(session, settled=0, limit=100_000)
        assert not graph.read_on(session)


@pytest.mark.parametrize("moment", ["'infinity'", "now() + interval '1000 years'"])
def test_nobody_is_silenced_for_longer_than_his_allowance_can_count(
    hostile: psycopg.Connection[Any], transactions: Transactions, moment: str
) -> None:
    with transactions.begin("bob") as session:
        limits.message(session)
    hostile.execute(sql.SQL(f"UPDATE allowances SET used_until = {moment}"))  # type: ignore[arg-type]
    with transactions.begin("bob") as session:
        limits.message(session)
    hostile.execute("UPDATE allowances SET used_until = now() + interval '61 seconds'")
    with pytest.raises(RateLimited), transactions.begin("bob") as session:
        limits.message(session)


def test_an_event_in_no_form_of_its_type_keeps_nobody_from_reading_the_others(
    hostile: psycopg.Connection[Any], as_bob: psycopg.Connection[Any], transactions: Transactions
) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "to all")
    others = re.compile("agent.(added|key|token)|consensus|feed|graph|node.(admitted|removed)|signer.revoked|statement|(signer|service).registered")
    types = [name for name in replayed_events.APPLY if not others.match(name)]
    bad = ("{}", '{"message_id": "x", "recipients": [5, []], "added": 5, "agent": [], "capabilities": 5, "finding_id": [], "content": 5}')
    for told in types:
        for payload in bad:
            hostile.execute(APPEND, ["node:evil", None, told, payload])
            as_bob.execute("SELECT federation_append('agent:bob', NULL, %s, 'bob', NULL, NULL, %s, 't')", [told, payload])
    for told in ("message.sent", "role.assigned", "artifact.stored"):
        as_bob.execute("SELECT federation_append('messages:commons', NULL, %s, 'bob', 'commons', NULL, %s, 't')", [told, bad[1]])
    with transactions.begin("cli:root") as session:
        replayed = replay.replay(session)
    assert {each.key.partition(" ")[0] for each in replayed.differences if each.table == "events"} >= {"node:evil", "agent:bob"}
    assert not [each for each in replayed.differences if each.table == "messages" and each.key != "x"]
    with transactions.begin("ada") as session:
        told = [each.what for each in episodes.recall(session, about=["commons"]).episodes]
    assert "said to all" in told
