"""Migrations run up and down on an empty and on a full database, and tell the same story as the models."""

import uuid

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Table, text

from federation.store.models import Base
from federation.store.models.base import CURRENT_ACTOR


@pytest.fixture
def owner(postgres, database: str) -> str:
    return postgres.as_role("federation_owner", database)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}


# The old tables know of no votes, no lines, no findings, no memories, no schedules, no graph and no cache.
LATER = {"consensus": 0, "consensus_acks": 0, "ballots": 0, "claim_waiters": 0, "agent_session_members": 0, "agent_findings": 0, "memories": 0}
LATER |= {"summary_schedules": 0, "graph_relations": 0, "cached_answers": 0}
BY_KEY = "SELECT concat_ws(' ', {key}), {column} FROM {table}"


def key(table: Table) -> str:
    return ", ".join(table.primary_key.columns.keys())


def test_models_and_migrations_agree(owner: str, alembic) -> None:
    alembic(owner, "check")


@pytest.fixture
def full(owner: str, database: str, main_job) -> None:
    """A database with rows in each table; those that no verb writes are written by hand."""
    main_job()
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO celery_group_results (group_id, result) VALUES ('g', '[]')")
        connection.execute("INSERT INTO celery_chords (group_id) VALUES ('g')")
        connection.execute("INSERT INTO event_order SELECT row_number() OVER (ORDER BY sequence), sequence, '' FROM events")
        connection.execute("INSERT INTO seals VALUES (1, 1, 1, '', '', '', now(), 'service:sealer')")
    assert [table for table, rows in counts(owner).items() if rows == 0] == []


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in sorted(tables(url))}


def test_a_full_database_goes_down_and_up_again(owner: str, alembic, full) -> None:
    before = tables(owner)
    alembic(owner, "downgrade", "base")
    assert tables(owner) == {"alembic_version"}
    alembic(owner, "upgrade", "head")
    assert tables(owner) == before


def test_rows_that_were_there_before_the_columns_of_actors_get_the_true_ones(owner: str, database: str, alembic, full) -> None:
    """What the upgrade works out from events and neighbours is what the program had written, row by row."""
    columns = [
        column for table in Base.metadata.sorted_tables for column in table.columns if getattr(column.server_default, "arg", None) is CURRENT_ACTOR
    ]

    def written_by() -> dict[str, dict[str, str]]:
        with psycopg.connect(database) as connection:
            return {
                column.table.name: dict(connection.execute(BY_KEY.format(key=key(column.table), column=column.name, table=column.table.name)))
                for column in columns
            }

    before, rows = written_by(), counts(owner)
    alembic(owner, "downgrade", "0002")
    alembic(owner, "upgrade", "head")
    # The order is given anew, and so are the seals; what was sent again from the quarantine, and who signs, is not known to the old tables.
    # What was said to a role is nobody's but its sender's to the older program, which takes what one was told in one's own name for that; of what was
    # done before, the last is known.
    lost = {
        "event_order": 0,
        "seals": 0,
        "redrives": 0,
        "dismissals": 0,
        "signers": 0,
        "services": 0,
        "agent_keys": 0,
        "statements": 0,
        "allowances": 0,
    }
    lost |= {"role_assignments": 0, "conversation_phases": 0, "artifacts": 0}
    lost |= {"agent_capabilities": 0, "feeds": 0, "cop_history": rows["cop_states"], "message_receipts": rows["message_receipts"] - 4}
    assert counts(owner) == rows | lost | LATER
    empty = {
        table: {}
        for table in ("seals", "redrives", "dismissals", "signers", "services", "agent_keys", "statements", "agent_capabilities", "feeds", *LATER)
    }
    receipts = {key: actor for key, actor in before["message_receipts"].items() if key in written_by()["message_receipts"]}
    # Dan put it there when he said what he can do; before that was known, whoever sent something put it there.
    receipts["dan 2"] = "ada"
    assert written_by() == before | empty | {"message_receipts": receipts}
    assert len(before) == 35
    assert len({actor for table in before.values() for actor in table.values()}) >= 5


def test_what_was_said_before_the_count_was_kept_is_counted(owner: str, alembic, transactions) -> None:
    from federation.services import messages, summaries

    summary = {"method": "m", "model": "m", "model_digest": "d", "message_ids": [], "text": "t"}
    with transactions.begin("ada") as session:
        for number in range(5):
            messages.send(session, f"{number}", conversation_id="project-123")
        messages.send(session, "private", conversation_id="project-123", to="bob")
        messages.send(session, "between two", to="bob")
        summaries.record(session, {**summary, "conversation_id": "project-123", "from_position": 1, "to_position": 2})
    query = "select id, unsummarised from conversations order by id"
    with psycopg.connect(owner) as connection:
        before = connection.execute(query).fetchall()
    assert before == [("direct:ada:bob", 1), ("project-123", 3)]
    alembic(owner, "downgrade", "0002")
    alembic(owner, "upgrade", "head")
    with psycopg.connect(owner) as connection:
        assert connection.execute(query).fetchall() == before


@pytest.mark.parametrize("role", ["federation_app", "federation_service", "federation_owner"])
@pytest.mark.parametrize("statement", ["update events set actor = 'mallory'", "delete from events", "truncate events"])
def test_events_are_append_only_for_every_role_of_the_program(postgres, database: str, transactions, role: str, statement: str) -> None:
    url = postgres.as_role(role, database)
    with psycopg.connect(url) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_auditor_reads_and_writes_nothing(postgres, database: str, transactions) -> None:
    with psycopg.connect(postgres.as_role("federation_auditor", database), autocommit=True) as connection:
        assert connection.execute("select count(*) from events").fetchone() != (0,)
        for statement in ("insert into conversations values ('x', 'y')", "delete from messages", "select * from agent_tokens"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_agents_of_a_teams_own_role_outlive_a_downgrade_and_what_awaits_approval_is_not_let_through(
    owner: str, database: str, alembic, transactions
) -> None:
    from federation.services import tasks

    with transactions.begin("bob") as session:
        tasks.delegate(session, "Restart the cache", requires_approval=True)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO agents (name, role, created_by) VALUES ('rea', 'reviewer', 'cli:root')")
    alembic(owner, "downgrade", "0009")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT role FROM agents WHERE name = 'rea'").fetchone() == ("reviewer",)
        assert connection.execute("SELECT status FROM agent_tasks").fetchone() == ("cancelled",)
        with pytest.raises(errors.CheckViolation):
            connection.execute("INSERT INTO agents (name, role, created_by) VALUES ('roy', 'reviewer', 'cli:root')")
    alembic(owner, "upgrade", "head")
    with psycopg.connect(database) as connection, pytest.raises(errors.CheckViolation):
        connection.execute("INSERT INTO agents (name, role, created_by) VALUES ('roy', 'Re viewer', 'cli:root')")


def test_what_the_older_program_does_not_know_of_tasks_is_told_in_its_words(owner: str, database: str, alembic, transactions) -> None:
    from federation.services import assignments, task_ends, tasks

    with transactions.begin("ada") as session:
        tasks.delegate(session, "Look at it", slug="person", executor="person")
        tasks.delegate(session, "In time", slug="late", timeout_s=60)
        tasks.delegate(session, "To bob", slug="handed")
        assignments.assign(session, "bob", "developer", "handed", conversation_id="commons")
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE agent_tasks SET expires_at = clock_timestamp() WHERE slug = 'late'"))
    with transactions.begin("service:beat") as session:
        assert [task_ends.expire(session, each) for each in task_ends.overdue(session)] == [True]
    alembic(owner, "downgrade", "0019")
    query = "SELECT slug, executor, status, reserved_for, requirements FROM agent_tasks ORDER BY slug"
    with psycopg.connect(database) as connection:
        assert connection.execute(query).fetchall() == [
            ("handed", "agent", "assigned", "bob", {}),
            ("late", "agent", "failed", None, {}),
            ("person", "agent", "pending", None, {"role": "human"}),
        ]
    alembic(owner, "upgrade", "head")
    with psycopg.connect(database) as connection:
        waits = connection.execute("SELECT slug FROM agent_tasks WHERE waiting_since IS NOT NULL ORDER BY slug").fetchall()
    assert waits == [("handed",), ("person",)]


def test_what_the_older_program_would_show_to_everybody_it_does_not_get(owner: str, database: str, alembic, transactions) -> None:
    from federation.services import indexing
    from federation.services.indexed_documents import NewDocument
    from federation.vectors.chunking import Chunk

    with transactions.begin("ada") as session:
        for root, visibility in (("/srv/shown", "all"), ("/srv/kept", "nobody"), ("/srv/withdrawn", "nobody"), ("/srv/withdrawn", "role")):
            document = NewDocument("a.py", "digest", 10, [Chunk("a.py", "function", "f", 1, 2, f"{root} {visibility}", "hash")])
            values = {"paths": ["a.py"], "documents": [document], "skipped": [], "visibility": visibility}
            indexing.record_scan(session, uuid.uuid4(), root, **values)
    alembic(owner, "downgrade", "0020")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT root, text FROM documents JOIN chunks ON document_id = documents.id").fetchall() == [
            ("/srv/shown", "/srv/shown all")
        ]
        assert connection.execute("SELECT DISTINCT root FROM index_runs ORDER BY root").fetchall() == [("",), ("/srv/shown",)]
    alembic(owner, "upgrade", "head")
    with psycopg.connect(database) as connection:
        indexed = "SELECT root, visibility, audience, f.created_by, path FROM indexed_folders f JOIN documents ON folder_id = f.id"
        assert connection.execute(indexed).fetchall() == [("/srv/shown", "all", "", "ada", "a.py")]
