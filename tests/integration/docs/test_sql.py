"""Each SQL statement of the documentation runs as the auditor, as it stands."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.local.postgres import KEPT
from federation.services import messages, task_claims, tasks
from federation.store import outbox
from federation.transaction import Transactions

PAGES = sorted((Path(__file__).parents[3] / "docs").rglob("*.md"))
STATEMENTS = [
    pytest.param(statement, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, statement in enumerate(
        statement for block in re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.S | re.M) for statement in filter(str.strip, block.split(";"))
    )
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_runs_as_the_auditor(postgres, database: str, statement: str) -> None:
    with psycopg.connect(postgres.as_role("federation_auditor", database)) as connection:
        connection.execute(statement)


def test_audit_query_shows_what_was_said_and_to_whom(postgres, database: str, transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "Bob, can you look at the cache?", to="bob", conversation_id="project-123")
    with transactions.begin("bob") as session:
        messages.send(session, "On it.", conversation_id="project-123")
    with psycopg.connect(postgres.as_role("federation_auditor", database)) as connection:
        rows = connection.execute(STATEMENTS_BY_NAME["audit-0"]).fetchall()
    assert [row[:3] for row in rows] == [("ada", "bob", "Bob, can you look at the cache?"), ("bob", None, "On it.")]


def test_story_of_a_task_is_found_by_its_slug_which_may_stand_in_several_conversations(postgres, database: str, transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "Profile the memory", slug="memory-profile")
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})
    with transactions.begin("bob", execution_id=execution_id) as session:
        task_claims.claim(session, "memory-profile", description="profiling", ttl_s=60)
    with transactions.begin("eve") as session:
        other = tasks.delegate(session, "Profile ours too", slug="memory-profile", conversation_id="elsewhere")
    with psycopg.connect(postgres.as_role("federation_auditor", database)) as connection:
        rows = connection.execute(STATEMENTS_BY_NAME["audit-1"]).fetchall()
    assert [row[1:4] for row in rows if row[0] == f"task:{task.id}"] == [(1, "task.created", "ada"), (2, "task.claimed", "bob")]
    assert [row[1:4] for row in rows if row[0] == f"task:{other.id}"] == [(1, "task.created", "eve")]
    assert len(rows) == 3


def test_what_a_superuser_runs_in_a_database_of_ones_own_keeps_what_up_keeps_in_its_own(database: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "use-your-own-servers.md"
    [block] = re.findall(r"^```plpgsql\n(.*?)^```", page.read_text(), re.S | re.M)
    made = """
        SELECT p.prosrc, p.proconfig, t.evtevent, t.evttags, (SELECT array_agg(f.oid::regprocedure::text ORDER BY 1) FROM pg_proc f
            WHERE proname ~ '^lo_(creat|from)' AND has_function_privilege('federation_app', f.oid, 'EXECUTE'))
        FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid WHERE t.evtname = 'keep_rights'
    """
    rights: dict[str, Any] = {}
    for name, statements in {"up": KEPT, "page": block}.items():
        with psycopg.connect(database) as connection:
            connection.execute(statements)
            [rights[name]] = connection.execute(made).fetchall()
            connection.rollback()
    (up, *of_up), (page_s, *of_page) = rights["up"], rights["page"]
    assert page_s.upper().split() == up.upper().split()
    assert of_page == of_up
    assert of_up[-1] is None, "nobody makes large objects"


STATEMENTS_BY_NAME = {str(parameter.id): parameter.values[0] for parameter in STATEMENTS}
