"""What of others' rows agents see, whatever is asked and over whichever connection; and that looking for it stays quick."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError

from federation.services import (
    cop,
    executions,
    findings,
    history,
    inboxes,
    indexed_folders,
    messages,
    outcomes,
    resource_claims,
    retrieval,
    summaries,
    tasks,
)
from federation.store.models.sessions import AgentSession
from federation.transaction import Transactions, connect


@pytest.fixture
def one_connection(postgres: Any, database: str, transactions: Transactions, publisher: Any) -> Iterator[Transactions]:
    """Transactions of agents that all go over one connection."""
    engine = connect(postgres.as_role("federation_app", database), most=2)
    yield Transactions(engine, publisher, service=transactions.service)
    engine.dispose()


def test_a_pooled_connection_remembers_nobody(one_connection: Transactions) -> None:
    def seen(session: Any) -> tuple[int, list[str]]:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        return pid, list(session.scalars(text("SELECT content FROM messages ORDER BY position")))

    with one_connection.begin("ada") as session:
        messages.send(session, "between us", to="bob")
        backend, told = seen(session)
    assert told == ["between us"]

    def of_nobody() -> tuple[int, list[str]]:
        with one_connection.engine.connect() as connection:
            return seen(connection)

    assert of_nobody() == (backend, [])
    with one_connection.begin("eve") as session:
        assert seen(session) == (backend, [])
    with pytest.raises(ZeroDivisionError), one_connection.begin("bob") as session:
        assert seen(session) == (backend, ["between us"])
        raise ZeroDivisionError
    assert of_nobody() == (backend, [])
    with pytest.raises(ProgrammingError, match="violates row-level security"), one_connection.engine.begin() as connection:
        connection.execute(text("INSERT INTO conversations (id, created_by, updated_by) VALUES ('mine', 'eve', 'eve')"))


def test_a_private_message_in_a_conversation_is_hidden_from_its_other_members(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        for name in ("bob", "dan"):
            messages.send(session, f"for {name}", conversation_id="secret", to=name)
        messages.send(session, "for all", conversation_id="secret")
    seen = {}
    for name in ("ada", "bob", "dan", "eve"):
        with transactions.begin(name) as session:
            # As a query that somebody forgot a condition in.
            seen[name] = session.scalars(text("SELECT content FROM messages ORDER BY position")).all()
    assert seen == {"ada": ["for bob", "for dan", "for all"], "bob": ["for bob", "for all"], "dan": ["for dan", "for all"], "eve": []}


def test_the_conversation_of_two_has_no_third_member(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "between us", to="bob")
    with pytest.raises(ProgrammingError, match="violates row-level security"), transactions.begin("ada") as session:
        session.execute(text("INSERT INTO conversation_members VALUES ('direct:ada:bob', 'eve', 'ada')"))


def test_a_search_shows_what_postgresql_shows_to_who_asked(transactions: Transactions, database: str) -> None:
    """bob is a developer as dan is, and in a conversation with eve; whatever LanceDB ranks for whom."""
    with transactions.begin("bob") as session:
        messages.send(session, "hello", conversation_id="secret", to="eve")
    ranked = []
    for level in ("all", "members", "role", "nobody"):
        with psycopg.connect(database) as connection:
            connection.execute("SELECT set_config('federation.actor', 'cli:root', true)")
            identity, audience = uuid.uuid4(), {"all": "", "members": "secret", "role": "developer", "nobody": "bob"}[level]
            connection.execute("INSERT INTO indexed_folders VALUES (%s, %s, %s, %s, 'bob')", [identity, f"/srv/{level}", level, audience])
            document = "INSERT INTO documents (id, folder_id, path, sha256, size, run_id, created_by) VALUES (%s, %s, 'a.py', 'd', 1, %s, 'bob')"
            connection.execute(document, [identity] * 3)
            connection.execute("INSERT INTO chunks VALUES (%s, %s, 'function', 'f', 1, 2, 'text', 'h')", [identity, identity])
        ranked.append((identity, 1.0, ["words"]))
    shown = {}
    for name in ("ada", "bob", "dan", "eve", "cli:root"):
        with transactions.begin(name) as session:
            shown[name] = [hit.root.removeprefix("/srv/") for hit in retrieval.show(session, ranked)]
            assert indexed_folders.roots(session) == sorted(f"/srv/{level}" for level in shown[name])
    everything = ["all", "members", "role", "nobody"]
    assert shown == {"ada": ["all"], "bob": everything, "dan": ["all", "role"], "eve": ["all", "members"], "cli:root": everything}


def test_members_share_what_works_for_their_conversation(transactions: Transactions) -> None:
    """Of an execution that one of them asked for, the others see how it goes; a stranger sees none of it."""
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id="secret", to="bob")
        messages.send(session, "to all", conversation_id="secret")
        asked = summaries.request(session, "secret")
        tasks.delegate(session, "Name one thing", executor="node", conversation_id="secret")
        alone = retrieval.request_index(session, "/srv/code")
    assert asked is not None
    counted = text("SELECT count(*) FILTER (WHERE id = :alone), count(*) FILTER (WHERE id <> :alone) FROM executions")
    seen = {}
    for name in ("ada", "bob", "eve"):
        with transactions.begin(name) as session:
            seen[name] = tuple(session.execute(counted, {"alone": alone}).one())
    assert seen == {"ada": (1, 2), "bob": (0, 2), "eve": (0, 0)}
    with transactions.begin("bob") as session:
        assert summaries.request(session, "secret") == asked


# Rows enough that a walk through them would be dearer than any index.
FILL = """
    INSERT INTO conversations (id, created_by) VALUES ('busy', 'ada');
    INSERT INTO conversation_members (conversation_id, agent, added_by) VALUES ('busy', 'ada', 'ada'), ('busy', 'bob', 'ada');
    INSERT INTO messages (id, conversation_id, position, sender, message_type, content, correlation_id, trace_id)
        SELECT uuid, 'busy', number, 'ada', 'chat', 'x', uuid, '' FROM ids;
    INSERT INTO message_receipts (agent, position, message_id, read_at)
        SELECT 'bob', number, uuid, CASE WHEN number < 15000 THEN now() END FROM ids;
    INSERT INTO statements (digest, subject, actor, action, choice, mode, attested_by, key, nonce, statement, signature)
        SELECT number, 'message:' || uuid, 'ada', 'message.send', 'send', 'attested', 'service:door', 'k', number, '', '' FROM ids;
    INSERT INTO executions (id, task_name, kwargs, requirements, priority, actor, trace_id) SELECT uuid, 't', '{}', '{}', 5, 'bob', '' FROM ids;
    INSERT INTO celery_results (task_id, state, date_done, expires_at) SELECT uuid, 'SUCCESS', now(), now() + interval '1 day' FROM ids;
    INSERT INTO indexed_folders (root, visibility, audience, created_by) VALUES ('/srv', 'all', '', 'ada');
    INSERT INTO documents (id, folder_id, path, sha256, size, run_id, created_by)
        SELECT uuid, indexed_folders.id, number, '', 1, uuid, 'ada' FROM ids, indexed_folders;
    INSERT INTO chunks (id, document_id, kind, title, start_line, end_line, text, content_hash) SELECT uuid, uuid, '', '', 1, 1, '', '' FROM ids;
    INSERT INTO agent_sessions (id, conversation_id, context, created_by) SELECT uuid, 'busy', '{}', 'ada' FROM ids;
    INSERT INTO agent_findings (id, session_id, position, finding_type, content, trace_id)
        SELECT uuid, uuid, 1, 'observation', '{"text": ""}', '' FROM ids;
    INSERT INTO claims (resource, holder, fencing_token, description, expires_at, updated_by)
        SELECT 'file:' || number % 100 || '/' || number, 'agent' || number, 1, '', now() + interval '1 day', '' FROM ids;
    INSERT INTO claim_waiters (resource, holder, present_until, updated_by)
        SELECT 'file:' || number % 100 || '/' || number, 'dan', now() + interval '1 day', 'dan' FROM ids;
    ANALYZE;
"""


def _plan(transactions: Transactions, work: Any, part: str = "") -> str:
    """Return how PostgreSQL does the last statement of bob's work that has this part."""
    statements: list[tuple[str, Any]] = []
    event.listen(transactions.engine, "before_cursor_execute", note := lambda _c, _cursor, sent, values, *_: statements.append((sent, values)))
    with transactions.begin("bob") as session:
        work(session)
        event.remove(transactions.engine, "before_cursor_execute", note)
        sent, values = [statement for statement in statements if part in statement[0]][-1]
        return "\n".join(line for (line,) in session.connection().exec_driver_sql(f"EXPLAIN {sent}", values).fetchall())


def test_indexes_are_used_with_the_policies_in_force(transactions: Transactions, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', false)")
        connection.execute("SET session_replication_role = replica")
        connection.execute("CREATE TEMPORARY TABLE ids AS SELECT number, gen_random_uuid() AS uuid FROM generate_series(1, 20000) AS number")
        for statement in FILL.split(";"):
            connection.execute(statement)
        [identity] = connection.execute("SELECT uuid FROM ids LIMIT 1").fetchone() or ()
    plans = {
        "inbox": _plan(transactions, inboxes.inbox, "message_receipts"),
        "history": _plan(transactions, lambda session: history.page(session, "busy", after=19900), "row_number"),
        "who signed what one reads": _plan(transactions, inboxes.inbox, "FROM statements"),
        "state of an execution": _plan(transactions, lambda session: executions.state(session, identity)),
        "end of an execution": _plan(transactions, lambda session: outcomes.ended(session, identity)),
        "cancelling": _plan(transactions, lambda session: executions.cancel(session, identity, ""), "SET cancelled_at"),
        "asking for a summary": _plan(transactions, lambda session: summaries.request(session, "busy"), "celery_results"),
        "who shows itself to members": _plan(transactions, lambda session: cop.pulse(session, node_stale_s=1, agent_stale_s=1), "cop_states"),
        "claiming a file": _plan(transactions, lambda session: resource_claims.take(session, "file:new/main.py", ttl_s=60), "WITH moment"),
        "claiming a folder": _plan(transactions, lambda session: resource_claims.take(session, "file:new/**", ttl_s=60), "WITH moment"),
        "findings": _plan(transactions, lambda session: findings.page(session, session.get_one(AgentSession, identity))),
        "hits of a search": _plan(transactions, lambda session: retrieval.show(session, [(identity, 1.0, ["words"])])),
    }
    for what, plan in plans.items():
        assert not re.search(
            "Seq Scan on (claims|claim_waiters|messages|message_receipts|executions|celery_results|documents|chunks|agent_findings|statements)", plan
        ), f"{what}:\n{plan}"
    # Once for the statement, and not for each row.
    assert "hashed SubPlan" in plans["history"]
    assert "InitPlan" in plans["hits of a search"]
    assert "ix_messages_said_by" in plans["who shows itself to members"]
