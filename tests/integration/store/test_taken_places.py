"""Where agents write in plain SQL: at places that were taken, of executions and runs that are theirs, and under no other name."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from federation.errors import Conflict
from federation.services import artifacts, executions, indexing, inference, messages, phase_moves, sessions
from federation.services.artifacts import Offered
from federation.services.findings import Said, post
from federation.services.indexing import NewDocument
from federation.services.sessions import Start
from federation.store.contents import Stored
from federation.transaction import Transactions
from federation.vectors import chunking

NEXT = "(SELECT 1 + position FROM streams WHERE name = :stream)"
MESSAGE = """
    INSERT INTO messages (id, conversation_id, position, sender, message_type, content, correlation_id, trace_id)
    VALUES (gen_random_uuid(), 'nt', :place, :me, 'chat', 'in the way', gen_random_uuid(), 't')
"""
RECEIPT = "INSERT INTO message_receipts (agent, position, message_id) SELECT 'bob', :place, id FROM messages WHERE sender = :me LIMIT 1"
FINDING = """
    INSERT INTO agent_findings (id, session_id, position, agent_id, finding_type, content, evidence, trace_id)
    SELECT gen_random_uuid(), id, :place, :me, 'observation', '{"text": "x"}', '[]', 't' FROM agent_sessions WHERE slug = 'INC-1'
"""
PHASE = "INSERT INTO conversation_phases (conversation_id, number, phase, reason, created_by) VALUES ('nt', :place, 'discuss', '', :me)"
ARTIFACT = """
    INSERT INTO artifacts (id, conversation_id, name, version, kind, media_type, size, sha256, created_by)
    VALUES (gen_random_uuid(), 'nt', 'plan.md', :place, 'design', 'text/plain', 1, repeat('1', 64), :me)
"""
IN_THE_WAY = {"messages": MESSAGE, "message_receipts": RECEIPT, "agent_findings": FINDING, "conversation_phases": PHASE, "artifacts": ARTIFACT}


@pytest.fixture
def ahead(transactions: Transactions) -> Mapping[str, int]:
    """What ada and bob do together, and by table the place that the next row there takes."""
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id="nt", to="bob")
        sessions.join(session, "INC-1", Start(context={"task": "look"}), conversation_id="nt")
    with transactions.begin("bob") as session:
        messages.send(session, "hello", conversation_id="nt", to="ada")
        sessions.join(session, "INC-1", Start())
    streams = {"messages": "messages:nt", "message_receipts": "inbox:bob"}
    with transactions.begin("test:hand") as session:
        found = {table: session.scalar(text(f"SELECT {NEXT}"), {"stream": stream}) for table, stream in streams.items()}
        looked_into = session.scalar(text("SELECT 'session:' || id FROM agent_sessions"))
        found["agent_findings"] = session.scalar(text(f"SELECT {NEXT}"), {"stream": looked_into})
    return {**found, "conversation_phases": 1, "artifacts": 1}


TOOLS: Mapping[str, Callable[[Any], object]] = {
    "messages": lambda session: messages.send(session, "and on", conversation_id="nt", to="bob", slug="once"),
    "message_receipts": lambda session: messages.send(session, "and on", conversation_id="nt", to="bob"),
    "agent_findings": lambda session: post(session, "INC-1", Said(content="It leaks", category="observation")),
    "conversation_phases": lambda session: phase_moves.move(session, "nt", "propose"),
    "artifacts": lambda session: artifacts.record(session, Offered(conversation_id="nt", name="plan.md", kind="design"), Stored("2" * 64, 10)),
}


@pytest.mark.parametrize("table", IN_THE_WAY)
def test_nobody_puts_a_row_where_no_place_was_taken(transactions: Transactions, ahead: Mapping[str, int], table: str) -> None:
    places = (0, -1, ahead[table] + (table in {"conversation_phases", "artifacts"}), ahead[table] + 7, 2**31 - 1)
    for place in places:
        with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("bob") as session:
            session.execute(text(IN_THE_WAY[table]), {"place": place, "me": "bob"})
    with transactions.begin("ada") as session:
        TOOLS[table](session)


@pytest.mark.parametrize("table", ["messages", "message_receipts", "agent_findings"])
def test_who_meets_a_row_that_was_written_beside_the_program_is_told_so(transactions: Transactions, ahead: Mapping[str, int], table: str) -> None:
    with transactions.begin("test:hand") as session:
        session.execute(text(IN_THE_WAY[table]), {"place": ahead[table], "me": "ada"})
    with pytest.raises(Conflict, match="nothing was recorded: a row stands already where this belongs"), transactions.begin("ada") as session:
        TOOLS[table](session)


def test_what_an_execution_did_is_written_by_who_asked_for_it(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        asked = inference.request(session, "Name one thing")
    written = text("INSERT INTO execution_effects (execution_id, key, value, actor) VALUES (:id, 'model_run', '{}', :me)")
    for identity, name in ((asked, "eve"), (asked, "bob")):
        with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin(name) as session:
            session.execute(written, {"id": identity, "me": name})
    with transactions.begin("ada", execution_id=asked) as session:
        assert executions.once(session, "model_run", {})


@pytest.mark.parametrize("name", ["ada:zed", "zed:eve", "eve", "", "eve:zed:ada", "ada:eve:zed"])
def test_the_conversation_of_two_is_opened_by_one_of_them(transactions: Transactions, name: str) -> None:
    opened = text("INSERT INTO conversations (id, created_by) VALUES (:id, 'eve')")
    with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("eve") as session:
        session.execute(opened, {"id": f"direct:{name}"})


def test_either_of_two_opens_it(transactions: Transactions) -> None:
    for name, other in (("eve", "bob"), ("bob", "dan")):
        with transactions.begin(name) as session:
            assert messages.send(session, "psst", to=other).conversation_id == f"direct:bob:{max(name, other)}"
    with transactions.begin("eve") as session:
        assert messages.send(session, "do not forget", to="eve").conversation_id == "direct:eve:eve"


def test_cached_answers_are_dropped_by_nobody_without_a_name(transactions: Transactions) -> None:
    with transactions.engine.connect() as connection, pytest.raises(DBAPIError, match="by who says who he is"):
        connection.execute(text("SELECT federation_drop_answers(0, 0, '1 day')"))


def test_who_sees_an_index_of_another_takes_nothing_out_of_it_without_a_run_of_his_own(transactions: Transactions) -> None:
    def scan(name: str, run_id: uuid.UUID, *texts: str) -> None:
        chunks = [chunking.Chunk("a.py", "function", each, 1, 2, each, each) for each in texts]
        with transactions.begin(name) as session:
            found = [NewDocument("a.py", "".join(texts), 1, chunks)] if texts else []
            indexing.record_scan(session, run_id, "/srv/code", paths=["a.py"] if texts else [], documents=found, skipped=[], visibility="all")
            indexing.record_words(session, run_id, indexing.unsearchable(session, run_id))

    scan("bob", uuid.uuid4(), "one", "two")
    for table in ("documents", "chunks"):
        with transactions.begin("eve") as session:
            assert session.scalar(text(f"SELECT count(*) FROM {table}"))
            assert not session.execute(text(f"DELETE FROM {table}")).rowcount
    scan("eve", uuid.uuid4(), "two")
    scan("eve", uuid.uuid4())
    with transactions.begin("eve") as session:
        assert session.scalar(text("SELECT (SELECT count(*) FROM documents) + (SELECT count(*) FROM chunks)")) == 0
