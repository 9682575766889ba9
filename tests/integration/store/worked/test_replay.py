"""What the events make of the tables is what these hold; whatever is changed beside the events shows, in each table."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from federation.services.replay import Replayed, replay
from federation.services.replayed_events import APPLY
from federation.services.replayed_tables import COLUMNS_LEFT_OUT, IN_THE_EVENT, LEFT_OUT, STORED, WITHOUT_A_ROW
from federation.store.models import Base
from federation.transaction import Transactions, connect, reading

# A change of each table that no event tells of.
CHANGES = {
    "agents": "UPDATE agents SET role = 'lead' WHERE name = 'bob'",
    "agent_tokens": "UPDATE agent_tokens SET revoked_at = NULL WHERE agent = 'dan'",
    "conversations": "UPDATE conversations SET created_by = 'mallory'",
    "conversation_members": "DELETE FROM conversation_members",
    "messages": "UPDATE messages SET content = 'never said'",
    "message_receipts": "UPDATE message_receipts SET read_at = NULL",
    "cop_states": "UPDATE cop_states SET summary = 'idling' WHERE kind = 'agent'",
    "cop_history": "UPDATE cop_history SET summary = 'idling' WHERE kind = 'agent'",
    "agent_capabilities": "UPDATE agent_capabilities SET capability = 'fly'",
    "feeds": "UPDATE feeds SET expires_s = 1",
    "nodes": "UPDATE nodes SET concurrency = 99",
    "agent_tasks": "UPDATE agent_tasks SET result = '{\"leaks\": 99}' WHERE status = 'completed'",
    "role_assignments": "UPDATE role_assignments SET role = 'lead'",
    "conversation_phases": "UPDATE conversation_phases SET phase = 'review'",
    "claims": "UPDATE claims SET fencing_token = fencing_token + 1",
    "claim_waiters": "DELETE FROM claim_waiters",
    "executions": "UPDATE executions SET kwargs = '{\"x\": 1}'",
    "outbox": "INSERT INTO outbox (execution_id, updated_by) SELECT id, 'mallory' FROM executions WHERE cancelled_at IS NOT NULL LIMIT 1",
    "execution_deliveries": "UPDATE execution_deliveries SET worker = 'nobody@nowhere'",
    "execution_effects": "UPDATE execution_effects SET value = '{}'",
    "quarantine": "UPDATE quarantine SET reason = 'none'",
    "redrives": "DELETE FROM redrives",
    "dismissals": "UPDATE dismissals SET reason = 'none'",
    "signers": "UPDATE signers SET revoked_at = NULL",
    "services": "UPDATE services SET role = 'lead'",
    "agent_keys": "UPDATE agent_keys SET revoked_at = NULL",
    "statements": "UPDATE statements SET statement = replace(statement, 'approve', 'reject')",
    "consensus": "UPDATE consensus SET outcome = '{\"winner\": \"no\"}' WHERE state = 'decided'",
    "consensus_acks": "UPDATE consensus_acks SET options_hash = 'another'",
    "ballots": "UPDATE ballots SET choice = 'no'",
    "agent_sessions": 'UPDATE agent_sessions SET outcome = \'{"conclusion": "nothing"}\'',
    "agent_session_members": "UPDATE agent_session_members SET focus = 'nothing'",
    "agent_findings": "UPDATE agent_findings SET confidence = 0.1",
    "summaries": "UPDATE summaries SET text = 'nothing was said'",
    "summary_schedules": "UPDATE summary_schedules SET messages = 99",
    "memories": "UPDATE memories SET digest = 'another'",
    "model_runs": "UPDATE model_runs SET completion_tokens = completion_tokens + 1",
    "cached_answers": "UPDATE cached_answers SET model = 'another'",
    "indexed_folders": "UPDATE indexed_folders SET visibility = 'nobody', audience = 'ada'",
    "index_runs": "UPDATE index_runs SET finished_at = NULL",
    "artifacts": "UPDATE artifacts SET sha256 = repeat('0', 64)",
}

# Further columns, of which the event has the value, its hash or what it was taken from.
COLUMNS = {
    ("messages", "data"): '\'{"severity": "none"}\'',
    ("agent_tasks", "parent_id"): "NULL",
    ("agent_tasks", "capability"): "'fly'",
    ("agent_tasks", "timeout_s"): "99",
    ("agent_tasks", "handed_to"): "'mallory'",
    ("agent_tasks", "look_up"): "NOT look_up",
    ("executions", "conversation_id"): "(SELECT max(id) || '-other' FROM conversations)",
    ("execution_deliveries", "redelivered"): "NOT redelivered",
    ("quarantine", "headers"): "'{}'",
    ("quarantine", "body"): "'nothing'",
    ("quarantine", "worker"): "'nobody@nowhere'",
    ("statements", "choice"): "'reject'",
    ("services", "created_by"): "'mallory'",
    ("index_runs", "created_by"): "'mallory'",
    ("indexed_folders", "created_by"): "'mallory'",
    ("artifacts", "created_by"): "'mallory'",
    ("artifacts", "task_id"): "NULL",
    ("artifacts", "size"): "size + 1",
    ("summaries", "rejected"): "'it invents'",
    ("summary_schedules", "cron"): "'0 8 * * *'",
    ("summary_schedules", "created_by"): "'mallory'",
    ("memories", "visibility"): "'all'",
    ("memories", "created_by"): "'mallory'",
    ("agent_findings", "content"): '\'{"text": "nothing"}\'',
    ("agent_findings", "evidence"): "'[]'",
    ("agent_sessions", "context"): "'{}'",
}


@pytest.fixture
def auditor(postgres: Any, database: str, transactions: Transactions) -> Iterator[Engine]:
    engine = connect(postgres.as_role("federation_auditor", database))
    yield engine
    engine.dispose()


def replayed(auditor: Engine) -> Replayed:
    with reading(auditor) as session:
        found = replay(session)
    # The one state's hash is the other's exactly if nothing differs, whatever is changed.
    assert (found.replayed_sha256 == found.stored_sha256) is not bool(found.differences)
    return found


def test_the_events_of_the_main_job_make_its_tables(auditor: Engine) -> None:
    found = replayed(auditor)
    assert found.differences == []
    assert found.events > 60
    assert found.rows > 40


@pytest.mark.parametrize("table", STORED)
def test_a_change_beside_the_events_is_found(auditor: Engine, database: str, table: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        changed = connection.execute(CHANGES[table]).rowcount
    assert changed
    assert {difference.table for difference in replayed(auditor).differences} == {table}


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_change_of_a_column_is_found_by_its_name(auditor: Engine, database: str, table: str, column: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        changed = connection.execute(f"UPDATE {table} SET {column} = {COLUMNS[table, column]}").rowcount
    assert changed
    names = {column, f"{column}_sha256", *(["repeated"] if column == "redelivered" else [])}
    found = {(difference.table, difference.column in names) for difference in replayed(auditor).differences}
    assert found == {(table, True)}


def test_a_row_without_events_and_events_without_their_row_are_found(auditor: Engine, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO agents (name, role, created_by) VALUES ('mallory', 'lead', 'mallory')")
        connection.execute("DELETE FROM agents WHERE name = 'eve'")
    found = [(each.table, each.key, each.column, each.replayed is None, each.stored is None) for each in replayed(auditor).differences]
    assert found == [("agents", "eve", None, False, True), ("agents", "mallory", None, True, False)]


def test_each_table_is_compared_or_left_out_by_name(watch: Any) -> None:
    bookkeeping = Base.metadata.tables.keys() - watch.TABLES
    assert STORED.keys() | LEFT_OUT | bookkeeping == set(Base.metadata.tables)
    assert not STORED.keys() & LEFT_OUT
    assert CHANGES.keys() == STORED.keys()


@pytest.mark.parametrize("table", STORED)
def test_each_column_is_compared_or_left_out_by_name(table: str) -> None:
    columns = {column.name for column in Base.metadata.tables[table].columns}
    compared = {column for column in columns if re.search(rf"\b{column}\b", STORED[table])}
    left_out = COLUMNS_LEFT_OUT.get(table, set())
    assert compared | left_out | IN_THE_EVENT >= columns
    assert left_out <= columns - compared - IN_THE_EVENT


def test_each_type_of_event_is_replayed_or_left_out_by_name() -> None:
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[4] / "docs" / "_ext" / "reference.py"
    specification = importlib.util.spec_from_file_location("reference", path)
    assert specification is not None
    assert specification.loader is not None
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    assert reference.event_types() == APPLY.keys() | WITHOUT_A_ROW
