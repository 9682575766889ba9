"""Who may do what with a row of each table: tried by role, table and verb; a table without a line here fails."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb
from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError

from federation.results.tables import metadata as results
from federation.services import cop, executions, findings, history, inboxes, messages, outcomes, resource_claims, retrieval, summaries, tasks
from federation.store.models import Base
from federation.store.models.sessions import AgentSession
from federation.transaction import Transactions, connect

TABLES = {**Base.metadata.tables, **results.tables}
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)

# A row of each table: bob's, in the conversation `secret`, of which dan is a member too. Columns that are left out are null.
EXECUTION = {"execution_id": ONE}
ROWS: dict[str, dict[str, Any]] = {
    "agents": {"name": "bob", "role": "developer", "created_by": "cli:root"},
    "agent_tokens": {"id": ONE, "agent": "bob", "token_sha256": "\\x00", "label": "", "created_by": "cli:root", "updated_by": "cli:root"},
    "agent_sessions": {
        "id": ONE,
        "conversation_id": "secret",
        "context": {"task": "psst"},
        "expertise": {},
        "status": "active",
        "created_by": "bob",
        "updated_by": "bob",
    },
    "agent_session_members": {"session_id": ONE, "actor": "bob", "focus": "psst"},
    "agent_findings": {
        "id": ONE,
        "session_id": ONE,
        "position": 1,
        "agent_id": "bob",
        "finding_type": "observation",
        "content": {"text": "psst"},
        "evidence": [],
    },
    "allowances": {"agent": "bob", "kind": "messages"},
    "conversations": {"id": "secret", "unsummarised": 1, "created_by": "bob", "updated_by": "bob"},
    "conversation_members": {"conversation_id": "secret", "agent": "dan", "added_by": "bob"},
    "messages": {
        "id": ONE,
        "conversation_id": "secret",
        "position": 1,
        "sender": "bob",
        "message_type": "chat",
        "content": "psst",
        "correlation_id": ONE,
    },
    "message_receipts": {"agent": "dan", "position": 1, "message_id": ONE, "updated_by": "bob"},
    "summaries": {
        "id": ONE,
        "conversation_id": "secret",
        "from_position": 1,
        "to_position": 1,
        "text": "psst",
        "message_ids": [],
        "created_by": "bob",
    },
    "cop_states": {"kind": "agent", "subject": "bob", "summary": "s", "action": "IDLE", "data": {}, "visibility": "members", "updated_by": "bob"},
    "cop_history": {
        "sequence": 10**9,
        "kind": "agent",
        "subject": "bob",
        "summary": "s",
        "action": "IDLE",
        "data": {},
        "visibility": "members",
        "updated_by": "bob",
    },
    "agent_capabilities": {"agent": "bob", "capability": "analyze_logs", "created_by": "bob"},
    "feeds": {
        "destination": "/queue/federation.bob",
        "agent": "bob",
        "position": 0,
        "expires_s": 60,
        "created_by": "cli:root",
        "updated_by": "cli:root",
    },
    "agent_tasks": {"id": ONE, "conversation_id": "secret", "description": "psst", "status": "pending", "created_by": "bob", "updated_by": "bob"},
    "role_assignments": {"id": ONE, "conversation_id": "secret", "agent": "bob", "role": "developer", "task_id": ONE, "created_by": "bob"},
    "conversation_phases": {"conversation_id": "secret", "number": 1, "phase": "propose", "reason": "", "created_by": "bob"},
    "consensus": {
        "id": ONE,
        "conversation_id": "secret",
        "revision": 1,
        "proposal": {},
        "options_hash": "h",
        "shown": False,
        "state": "open",
        "created_by": "bob",
        "updated_by": "bob",
    },
    "consensus_acks": {"consensus_id": ONE, "revision": 1, "actor": "bob", "options_hash": "h"},
    "ballots": {"consensus_id": ONE, "revision": 1, "actor": "bob", "response": [], "choice": "yes", "reason": ""},
    "claims": {"resource": f"task:{ONE}", "holder": "bob", "fencing_token": 1, "description": "", "updated_by": "bob"},
    "claim_waiters": {"place": 1, "resource": f"task:{ONE}", "holder": "bob", "updated_by": "bob"},
    "streams": {"name": "messages:secret", "position": 1},
    "events": {
        "id": ONE,
        "stream": "messages:secret",
        "position": 1,
        "type": "message.sent",
        "actor": "bob",
        "payload": {},
        "trace_id": "",
        "sequence": 10**9,
    },
    "event_order": {"number": 1, "sequence": 10**9, "leaf": "\\x00"},
    "event_relay": {"id": 1, "published": 0, "settled": 0},
    "seals": {"number": 1, "first": 1, "last": 1, "statement": "", "signature": "\\x00", "leaves": "\\x00", "actor": "service:sealer"},
    "executions": {
        "id": ONE,
        "task_name": "t",
        "kwargs": {},
        "requirements": {},
        "priority": 5,
        "conversation_id": "secret",
        "actor": "bob",
        "updated_by": "bob",
    },
    "outbox": {**EXECUTION, "attempts": 0, "updated_by": "bob"},
    "execution_deliveries": {
        **EXECUTION,
        "number": 1,
        "task_name": "t",
        "worker": "w",
        "pid": 1,
        "retries": 0,
        "returns": 0,
        "redelivered": False,
        "actor": "n",
    },
    "execution_effects": {**EXECUTION, "key": "k", "value": {}, "actor": "bob"},
    "quarantine": {"id": ONE, **EXECUTION, "queue": "q", "worker": "w", "reason": "r", "headers": {}, "body": "\\x00", "actor": "node:q"},
    "redrives": {"quarantine_id": ONE, **EXECUTION, "actor": "cli:root"},
    "dismissals": {"quarantine_id": ONE, "reason": "psst", "actor": "cli:root"},
    "model_runs": {**EXECUTION, "engine": "e", "completion": "psst", "actor": "bob"},
    "nodes": {"name": "taichi", "role": "lead", "simulated": False, "updated_by": "node:taichi"},
    "signers": {"identity": "i", "name": "node:taichi", "public_key": "k", "created_by": "node:taichi", "updated_by": "node:taichi"},
    "agent_keys": {"identity": "i", "agent": "bob", "public_key": "k", "created_by": "bob", "updated_by": "bob"},
    "statements": {"digest": "d", "subject": f"task:{ONE}", "actor": "bob", "mode": "signed", "nonce": "n", "signature": "\\x00"},
    "index_runs": {"id": ONE, "root": "/srv/code", "skipped": [], "created_by": "bob", "updated_by": "bob"},
    "index_batches": {**EXECUTION, "run_id": ONE, "chunk_ids": [], "updated_by": "bob"},
    "documents": {"id": ONE, "root": "/srv/code", "path": "a.py", "sha256": "d", "size": 1, "run_id": ONE, "created_by": "bob", "updated_by": "bob"},
    "chunks": {"id": ONE, "document_id": ONE, "kind": "k", "title": "t", "text": "x", "content_hash": "h", "updated_by": "bob"},
    "vector_changes": {"chunk_id": TWO, "run_id": ONE, "updated_by": "bob"},
    "celery_results": {"task_id": str(ONE), "state": "SUCCESS", "result": '"psst"'},
    "celery_group_results": {"group_id": "g", "result": "[]"},
    "celery_chords": {"group_id": "g"},
}
# S(elect), I(nsert, in one's own name), U(pdate), D(elete): what a stranger, a member, who wrote it, and the role `service` may do with it.
# Whoever is no member is a stranger, whatever his role. The auditor reads all; the owner does all; who has no name does nothing.
MAY = {
    "agents": ("S", "S", "S", "SIU"),
    "agent_tokens": ("", "", "", "SIU"),
    "agent_sessions": ("", "SIU", "SIU", "SIU"),
    # What he looks into each says himself.
    "agent_session_members": ("", "SI", "SIU", "SIU"),
    "agent_findings": ("", "SI", "SI", "SI"),
    "allowances": ("I", "I", "SIU", "SIU"),
    # A name that is taken is refused by its key.
    "conversations": ("I", "SIU", "SIU", "SIU"),
    "conversation_members": ("", "SI", "SI", "SIU"),
    "messages": ("", "SI", "SI", "SI"),
    "message_receipts": ("", "SU", "SI", "SIU"),
    "summaries": ("", "SI", "SI", "SI"),
    "cop_states": ("I", "SI", "SIU", "SIU"),
    "cop_history": ("I", "SI", "SI", "SI"),
    # What one can do one says oneself, and everybody sees it.
    "agent_capabilities": ("SI", "SI", "SID", "SID"),
    "feeds": ("", "", "", "SIUD"),
    "agent_tasks": ("", "SIU", "SIU", "SIU"),
    # What was designated, and where a conversation was moved, nobody changes.
    "role_assignments": ("", "SI", "SI", "SI"),
    "conversation_phases": ("", "SI", "SI", "SI"),
    # Who asked may change it while it is open; only the program ends it.
    "consensus": ("", "SI", "SIU", "SIU"),
    "consensus_acks": ("", "SI", "SI", "SI"),
    # What others voted is hidden until the end.
    "ballots": ("", "I", "SI", "SI"),
    # Who holds one alone changes it, while it stands; that of a task that is cancelled ends with the task.
    "claims": ("", "SI", "SIU", "SIU"),
    "claim_waiters": ("", "SI", "SIUD", "SIUD"),
    "streams": ("", "", "", "SIU"),
    "events": ("I", "I", "SI", "SI"),
    "event_order": ("", "", "", "SI"),
    "event_relay": ("", "", "", "SU"),
    "seals": ("", "", "", "SI"),
    "executions": ("", "SIU", "SIU", "SIU"),
    "outbox": ("I", "SID", "SID", "SIUD"),
    "execution_deliveries": ("", "S", "S", "SI"),
    # Of what executions did, one may write in one's own name, and see that.
    "execution_effects": ("I", "I", "SI", "SI"),
    "quarantine": ("", "S", "S", "SI"),
    "redrives": ("", "S", "S", "SI"),
    "dismissals": ("", "", "", "SI"),
    "model_runs": ("I", "I", "SI", "SI"),
    "nodes": ("S", "S", "S", "SIU"),
    # A trigger lets it be revoked, and not written as it is.
    "signers": ("", "", "", "SI"),
    "agent_keys": ("I", "I", "SI", "SI"),
    "statements": ("I", "SI", "SI", "SI"),
    "index_runs": ("SIU", "SIU", "SIU", "SIU"),
    "index_batches": ("SIU", "SIU", "SIU", "SIU"),
    "documents": ("SIUD", "SIUD", "SIUD", "SIUD"),
    "chunks": ("SIUD", "SIUD", "SIUD", "SIUD"),
    "vector_changes": ("SIUD", "SIUD", "SIUD", "SIUD"),
    "celery_results": ("", "S", "S", "SIUD"),
    "celery_group_results": ("", "", "", "SIUD"),
    "celery_chords": ("", "", "", "SIUD"),
}
STRANGERS = ("eve", "ada", "zoe")  # an analyst, a lead, and an observer
GUARDED_BY_TRIGGERS = {"events", "event_order", "seals", "signers", "agent_keys", "statements", "consensus_acks", "ballots", "agent_findings"}


def test_each_table_has_been_thought_of() -> None:
    assert MAY.keys() == TABLES.keys() == ROWS.keys()


@pytest.fixture
def planted(database: str, transactions: Transactions) -> str:
    """A database with these rows."""
    with psycopg.connect(database) as connection:
        # So that only what matters here must be written down.
        connection.execute("SET LOCAL session_replication_role = replica")
        for table, row in ROWS.items():
            connection.execute(f"DELETE FROM {table} WHERE {_is(table)}", row)
            for column in TABLES[table].columns:
                if not column.nullable and column.name not in row:
                    connection.execute(f"ALTER TABLE {table} ALTER {column.name} DROP NOT NULL")
            connection.execute(*_insert(table, row))
        connection.execute("INSERT INTO agents VALUES ('zoe', 'observer', 'cli:root')")
        connection.execute("INSERT INTO conversation_members VALUES ('secret', 'bob', 'bob')")
    return database


def _is(table: str) -> str:
    return " AND ".join(f"{column.name} = %({column.name})s" for column in TABLES[table].primary_key)


def _insert(table: str, row: dict[str, Any]) -> tuple[str, list[Any]]:
    told = {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in row.items()}
    names = ", ".join(told)
    return f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM jsonb_populate_record(NULL::{table}, %s)", [Jsonb(told)]


def _verbs(connection: psycopg.Connection[Any], table: str, name: str) -> str:
    """Return the verbs that are not refused, and meet the row; what a key or another constraint refuses is not refused by rights."""
    row = ROWS[table]
    own = {column: name if value == "bob" else value for column, value in row.items()}
    # An identity can only be given, and not changed.
    key = next(column.name for column in [*TABLES[table].primary_key, *TABLES[table].columns] if column.identity is None)
    statements: dict[str, tuple[str, Any]] = {
        "S": (f"SELECT FROM {table} WHERE {_is(table)}", row),
        "I": _insert(table, own),
        "U": (f"UPDATE {table} SET {key} = {key} WHERE {_is(table)}", row),
        "D": (f"DELETE FROM {table} WHERE {_is(table)}", row),
    }
    may = ""
    for verb, (statement, values) in statements.items():
        try:
            with connection.transaction(force_rollback=True):
                met = connection.execute(statement, values).rowcount
        except errors.InsufficientPrivilege:
            continue
        except errors.IntegrityError:
            met = 1
        may += verb if met else ""
    return may


def _may(postgres: Any, database: str, role: str, name: str | None) -> dict[str, str]:
    with psycopg.connect(postgres.as_role(f"federation_{role}", database)) as connection:
        if name is not None:
            connection.execute("SELECT set_config('federation.actor', %s, false)", [name])
        return {table: _verbs(connection, table, name or "nobody") for table in TABLES}


def test_role_by_table_by_verb(postgres: Any, planted: str) -> None:
    stranger, member, author, service = ({table: may[column] for table, may in MAY.items()} for column in range(4))
    for name in STRANGERS:
        assert _may(postgres, planted, "app", name) == stranger, name
    assert _may(postgres, planted, "app", "dan") == member
    assert _may(postgres, planted, "app", "bob") == author
    assert set(_may(postgres, planted, "app", None).values()) == {""}
    assert _may(postgres, planted, "service", "service:beat") == service
    assert _may(postgres, planted, "auditor", None) == dict.fromkeys(TABLES, "S")
    assert _may(postgres, planted, "owner", None) == {table: "SI" if table in GUARDED_BY_TRIGGERS else "SIUD" for table in TABLES}


def test_security_is_on_and_forced_and_each_right_has_its_policy(database: str) -> None:
    with psycopg.connect(database) as connection:
        forced = dict(connection.execute("SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relkind = 'r'").fetchall())
        policies: dict[tuple[str, str], set[str]] = {}
        for table, role, verb in connection.execute("SELECT tablename, roles[1], cmd FROM pg_policies").fetchall():
            policies.setdefault((table, role), set()).add(verb)
        granted = "SELECT privilege_type FROM information_schema.role_table_grants WHERE grantee = 'federation_app' AND table_name = %s"
        for table in TABLES:
            assert forced[table], table
            assert {verb for (verb,) in connection.execute(granted, [table])} == policies.get((table, "federation_app"), set()), table
            assert policies[table, "federation_service"] == policies[table, "federation_owner"] == {"ALL"}
            assert policies[table, "federation_auditor"] == {"SELECT"}


def test_what_looks_past_the_policies_is_the_owners_with_a_pinned_path(database: str) -> None:
    with psycopg.connect(database) as connection:
        query = "SELECT proname, pg_get_userbyid(proowner), proconfig[1] FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        found = connection.execute(query).fetchall()
    path = "search_path=pg_catalog, public, pg_temp"
    assert sorted(found) == [
        (f"federation_{name}", "federation_owner", path) for name in ("answered_by", "conversations", "key", "next_position", "voted")
    ]


@pytest.fixture
def one_connection(postgres: Any, database: str, transactions: Transactions, publisher: Any) -> Iterator[Transactions]:
    """Transactions of agents that all go over one connection."""
    engine = connect(postgres.as_role("federation_app", database), pool_size=1)
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
    public, private = uuid.uuid4(), uuid.uuid4()
    with psycopg.connect(database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'cli:root', true)")
        for identity, root in ((public, "/srv/public"), (private, "/srv/private")):
            connection.execute("INSERT INTO documents VALUES (%s, %s, 'a.py', 'd', 1, %s, 'ada')", [identity, root, identity])
            connection.execute("INSERT INTO chunks VALUES (%s, %s, 'function', 'f', 1, 2, 'text', 'h')", [identity, identity])
        # Whatever a later policy goes by; LanceDB ranks both for everybody.
        connection.execute(
            "CREATE POLICY not_yet ON documents AS RESTRICTIVE FOR SELECT TO federation_app "
            "USING (root = '/srv/public' OR current_setting('federation.actor') = 'ada')"
        )
    ranked = [(private, 0.9, ["words"]), (public, 0.8, ["words"])]
    shown = {}
    for name in ("ada", "eve"):
        with transactions.begin(name) as session:
            shown[name] = [hit.root for hit in retrieval.show(session, ranked)]
    assert shown == {"ada": ["/srv/private", "/srv/public"], "eve": ["/srv/public"]}


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
    INSERT INTO documents (id, root, path, sha256, size, run_id, created_by) SELECT uuid, '/srv', number, '', 1, uuid, 'ada' FROM ids;
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
