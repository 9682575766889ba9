"""Who may do what with a row of each table: tried by role, table and verb; a table without a line here fails."""

import uuid
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from federation.local import node_roles
from federation.results.tables import metadata as results
from federation.store.models import Base
from federation.transaction import Transactions
from tests.integration.store.changes import CHANGES

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
    "summary_schedules": {"conversation_id": "secret", "messages": 4, "created_by": "bob", "updated_by": "bob"},
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
    "artifacts": {
        "id": ONE,
        "conversation_id": "secret",
        "name": "psst.md",
        "version": 1,
        "kind": "design",
        "media_type": "text/markdown",
        "size": 4,
        "sha256": "0" * 64,
        "created_by": "bob",
    },
    "claims": {"resource": f"task:{ONE}", "holder": "bob", "fencing_token": 1, "description": "", "updated_by": "bob"},
    "claim_waiters": {"place": 1, "resource": f"task:{ONE}", "holder": "bob", "updated_by": "bob"},
    "streams": {"name": "messages:secret", "position": 1},
    "events": {
        "id": ONE,
        "stream": "messages:secret",
        "position": 1,
        "type": "message.sent",
        "actor": "bob",
        "conversation_id": "secret",
        "payload": {"message_id": str(ONE)},
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
    "memories": {
        "id": ONE,
        "visibility": "members",
        "audience": "secret",
        "content": "psst",
        "about": [],
        "salt": ONE,
        "digest": "d",
        "created_by": "bob",
        "updated_by": "bob",
    },
    "graph_relations": {
        "id": ONE,
        "source": "message",
        "source_id": ONE,
        "conversation_id": "secret",
        "subject": "file:psst.py",
        "relation": "mentions",
        "object": "agent:bob",
        "actor": "service:beat",
    },
    "model_runs": {**EXECUTION, "engine": "e", "completion": "psst", "actor": "bob"},
    "cached_answers": {**EXECUTION, "conversation_id": "secret", "key": "k", "prompt": "psst?", "completion": "psst", "created_by": "bob"},
    "nodes": {"name": "taichi", "role": "lead", "simulated": False, "updated_by": "node:taichi"},
    "signers": {"identity": "1" * 64, "name": "node:taichi", "public_key": "k", "created_by": "node:taichi", "updated_by": "node:taichi"},
    "services": {"name": "service:relay", "signer": "1" * 64, "role": "service", "created_by": "service:beat"},
    "agent_keys": {"identity": "i", "agent": "bob", "public_key": "k", "created_by": "bob", "updated_by": "bob"},
    "statements": {"digest": "d", "subject": f"task:{ONE}", "actor": "bob", "mode": "signed", "nonce": "n", "signature": "\\x00"},
    "indexed_folders": {"id": ONE, "root": "/srv/code", "visibility": "members", "audience": "secret", "created_by": "bob"},
    "index_runs": {"id": ONE, "folder_id": ONE, "root": "/srv/code", "skipped": [], "created_by": "bob", "updated_by": "bob"},
    "index_batches": {**EXECUTION, "run_id": ONE, "chunk_ids": [], "updated_by": "bob"},
    "documents": {"id": ONE, "folder_id": ONE, "path": "a.py", "sha256": "d", "size": 1, "run_id": ONE, "created_by": "bob", "updated_by": "bob"},
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
    # Set, changed and removed by whoever takes part.
    "summary_schedules": ("", "SIUD", "SIUD", "SIUD"),
    "cop_states": ("I", "SI", "SIU", "SIU"),
    "cop_history": ("I", "SI", "SI", "SI"),
    # What one can do one says oneself, and everybody sees it.
    "agent_capabilities": ("SI", "SI", "SID", "SID"),
    "feeds": ("", "", "", "SIUD"),
    "agent_tasks": ("", "SIU", "SIU", "SIU"),
    # A version stays as it was put.
    # Members add the next version, which this is not.
    "artifacts": ("", "S", "S", "SI"),
    # What was designated, and where a conversation was moved, nobody changes.
    "role_assignments": ("", "SI", "SI", "SI"),
    # Members add the next one, which this is not.
    "conversation_phases": ("", "S", "S", "SI"),
    # Who asked may change it while it is open; only the program ends it.
    "consensus": ("", "SI", "SIU", "SIU"),
    "consensus_acks": ("", "SI", "SI", "SI"),
    # What others voted is hidden until the end.
    "ballots": ("", "I", "SI", "SI"),
    # Who holds one alone changes it, while it stands; that of a task that is cancelled ends with the task.
    "claims": ("", "SI", "SIU", "SIU"),
    "claim_waiters": ("", "SI", "SIUD", "SIUD"),
    "streams": ("", "", "", "SIU"),
    # What happened in one's conversations, as far as one sees what it tells of.
    "events": ("", "SI", "SI", "SI"),
    "event_order": ("", "", "", "SI"),
    "event_relay": ("", "", "", "SU"),
    "seals": ("", "", "", "SI"),
    "executions": ("", "SIU", "SIU", "SIU"),
    "outbox": ("I", "SID", "SID", "SIUD"),
    "execution_deliveries": ("", "S", "S", "SI"),
    # Of what one's own executions did, one may write, and see that.
    "execution_effects": ("", "", "SI", "SI"),
    "quarantine": ("", "S", "S", "SI"),
    "redrives": ("", "S", "S", "SI"),
    "dismissals": ("", "", "", "SI"),
    # Of what agents remember the program's own parts may know that it is there; an operator removes what is for others.
    "memories": ("", "SI", "SIUD", "SD"),
    # Who sees what was read sees what it says; only the program reads.
    "graph_relations": ("", "S", "S", "SI"),
    "model_runs": ("", "", "SI", "SI"),
    # Who reads the conversation has its answers, and who asked adds them. That one was used is noted, nothing else; a function makes room.
    "cached_answers": ("", "SU", "SIU", "SIUD"),
    "nodes": ("S", "S", "S", "SIU"),
    # A trigger lets it be revoked, and not written as it is.
    "signers": ("", "", "", "SI"),
    "services": ("", "", "", "SI"),
    "agent_keys": ("I", "I", "SI", "SI"),
    "statements": ("I", "SI", "SI", "SI"),
    # Those whom an index is for keep it up to date, by runs of their own; who made it withdraws it, and for whom it is nobody changes.
    "indexed_folders": ("", "SI", "SID", "SID"),
    "index_runs": ("", "SI", "SIU", "SIU"),
    "index_batches": ("", "S", "SIU", "SIU"),
    "documents": ("", "SIU", "SIUD", "SIUD"),
    "chunks": ("", "SIU", "SIUD", "SIUD"),
    "vector_changes": ("", "SU", "SIUD", "SIUD"),
    "celery_results": ("", "S", "S", "SIUD"),
    "celery_group_results": ("", "", "", "SIUD"),
    "celery_chords": ("", "", "", "SIUD"),
}
# What a node's own logins may: over its role for agents in the name of who wrote the row, and over that of the program. What of nodes, their states,
# keys and services it writes is its own, which these rows are not.
NODE_MAY = {
    "agents": ("S", "S"),
    "agent_tokens": ("", ""),
    "agent_sessions": ("S", "S"),
    "agent_session_members": ("S", "S"),
    "agent_findings": ("SI", "S"),
    "allowances": ("SIU", "SIU"),
    "conversations": ("SIU", "SU"),
    "conversation_members": ("SI", "S"),
    "messages": ("SI", "S"),
    "message_receipts": ("SI", "S"),
    "summaries": ("SI", "SI"),
    "summary_schedules": ("S", "S"),
    "cop_states": ("S", "S"),
    "cop_history": ("S", "S"),
    "agent_capabilities": ("S", "S"),
    "feeds": ("", ""),
    "agent_tasks": ("SIU", "SU"),
    "artifacts": ("S", "S"),
    "role_assignments": ("S", "S"),
    "conversation_phases": ("S", "S"),
    "consensus": ("S", "S"),
    "consensus_acks": ("", ""),
    "ballots": ("", ""),
    "claims": ("SIU", "SIU"),
    "claim_waiters": ("SIUD", "SIUD"),
    "streams": ("", ""),
    "events": ("S", "S"),
    "event_order": ("", ""),
    "event_relay": ("", ""),
    "seals": ("", ""),
    "executions": ("SIU", "SIU"),
    "outbox": ("SID", "SIUD"),
    "execution_deliveries": ("S", "SI"),
    "execution_effects": ("SI", "SI"),
    "quarantine": ("S", "SI"),
    "redrives": ("S", "S"),
    "dismissals": ("", ""),
    "memories": ("SIUD", "S"),
    "graph_relations": ("S", "S"),
    "model_runs": ("SI", "SI"),
    "cached_answers": ("SIU", "SIU"),
    "nodes": ("S", "S"),
    "signers": ("", "S"),
    "services": ("", "S"),
    "agent_keys": ("", ""),
    "statements": ("", ""),
    "indexed_folders": ("SID", "SID"),
    "index_runs": ("SIU", "SIU"),
    "index_batches": ("SIU", "SIU"),
    "documents": ("SIUD", "SIUD"),
    "chunks": ("SIUD", "SIUD"),
    "vector_changes": ("SIUD", "SIUD"),
    "celery_results": ("S", "SIUD"),
    "celery_group_results": ("", "SIUD"),
    "celery_chords": ("", "SIUD"),
}
STRANGERS = ("eve", "ada", "zoe")  # an analyst, a lead, and an observer
GUARDED_BY_TRIGGERS = {
    "events",
    "event_order",
    "seals",
    "signers",
    "agent_keys",
    "statements",
    "consensus_acks",
    "ballots",
    "agent_findings",
    "artifacts",
}


def test_each_table_has_been_thought_of() -> None:
    assert MAY.keys() == NODE_MAY.keys() == TABLES.keys() == ROWS.keys()


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
        connection.execute("INSERT INTO streams VALUES ('inbox:dan', 1), (%s, 1) ON CONFLICT DO NOTHING", [f"session:{ONE}"])
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
    # Nobody chooses a number that the database gives.
    numbered = {column.name for column in TABLES[table].columns if column.identity is not None}
    own = {column: name if value == "bob" else value for column, value in row.items() if column not in numbered}
    # An identity can only be given, and not changed; who changes a row says that it was he.
    key = next(column.name for column in [*TABLES[table].primary_key, *TABLES[table].columns] if column.identity is None)
    changed = min(CHANGES.get(table, {key}) - {"updated_by"})
    change = f"{changed} = {changed}" + (", updated_by = %(me)s" if "updated_by" in TABLES[table].columns else "")
    statements: dict[str, tuple[str, Any]] = {
        "S": (f"SELECT FROM {table} WHERE {_is(table)}", row),
        "I": _insert(table, own),
        "U": (f"UPDATE {table} SET {change} WHERE {_is(table)}", row | {"me": name}),
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
    return _may_over(postgres.as_role(f"federation_{role}", database), name)


def _may_over(url: str, name: str | None) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        if name is not None:
            connection.execute("SELECT set_config('federation.actor', %s, false)", [name])
        return {table: _verbs(connection, table, name or "nobody") for table in TABLES}


@pytest.mark.tampers
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


@pytest.mark.tampers
def test_login_of_a_node_by_table_by_verb(planted: str) -> None:
    node_roles.let_in(planted, "needy", "secret", lasting=None)
    try:
        as_bob, as_node = (
            _may_over(f"postgresql://{node_roles.name_of('needy', acting)}:secret@{planted.rpartition('@')[2]}", name)
            for acting, name in zip(node_roles.ACTING_AS, ("bob", "node:needy"), strict=True)
        )
    finally:
        node_roles.shut_out(planted, "needy")
    assert {table: (as_bob[table], as_node[table]) for table in TABLES} == NODE_MAY


def test_security_is_on_and_forced_and_each_right_has_its_policy(database: str) -> None:
    with psycopg.connect(database) as connection:
        forced = dict(connection.execute("SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relkind = 'r'").fetchall())
        policies: dict[tuple[str, str], set[str]] = {}
        gives = "SELECT tablename, roles[1], cmd FROM pg_policies WHERE permissive = 'PERMISSIVE'"
        for table, role, verb in connection.execute(gives).fetchall():
            policies.setdefault((table, role), set()).add(verb)
        # Of the table, or of some of its columns.
        granted = " UNION ".join(
            f"SELECT privilege_type FROM information_schema.role_{of}_grants WHERE grantee = 'federation_app' AND table_name = %(table)s"
            for of in ("table", "column")
        )
        for table in TABLES:
            assert forced[table], table
            assert {verb for (verb,) in connection.execute(granted, {"table": table})} == policies.get((table, "federation_app"), set()), table
            assert policies[table, "federation_service"] == policies[table, "federation_owner"] == {"ALL"}
            assert policies[table, "federation_auditor"] == {"SELECT"}
