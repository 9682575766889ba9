"""What agents may write beside what their tools do: events where they take part, in order; and of rows that stand only what changes of them."""

from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from federation.services import approvals, conversations, memories, messages, sessions, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.services.sessions import Start
from federation.store import event_log
from federation.store.models import Base
from federation.transaction import Transactions
from tests.integration.store.changes import CHANGES

REFUSED = "permission denied|row-level security|is not one that"


@pytest.fixture
def streams(transactions: Transactions) -> dict[str, str | None]:
    """Streams of what ada and bob do among themselves, with the conversation that their events name."""
    with transactions.begin("ada") as session:
        said = messages.send(session, "psst", conversation_id="nt", to="bob").message_id
        task = tasks.delegate(session, "psst", conversation_id="nt").id
        looked_into = sessions.join(session, "psst", Start(context={"task": "psst"}), conversation_id="nt").id
        memory = memories.remember(session, "psst").memory_id
    with transactions.begin("cli:root") as session:
        execution = session.scalar(text("SELECT id FROM executions WHERE actor = 'ada' LIMIT 1"))
    ours = ("conversation:nt", "messages:nt", "artifacts:nt", f"task:{task}", f"session:{looked_into}", f"message:{said}")
    alone = (f"claim:task:{task}", "agent:ada", f"memory:{memory}", f"execution:{execution}")
    return dict.fromkeys(ours, "nt") | dict.fromkeys(alone)


# What an agent writes an event by, in plain SQL and by the function that the program calls; at the next place where none is given.
WAYS = {
    "insert": """
        INSERT INTO events (stream, position, type, actor, conversation_id, payload, trace_id)
        SELECT :stream, coalesce(:position, federation_next_position(:stream)), 'task.completed', :actor, :conversation, '{}', 't'
    """,
    "function": "SELECT federation_append(:stream, :position, 'task.completed', :actor, :conversation, NULL, '{}', 't')",
}
by_each_way = pytest.mark.parametrize("way", WAYS)


def _append(session: Any, stream: str, conversation: str | None, *, position: int | None = None, actor: str, way: str = "insert") -> None:
    statement = text(WAYS[way]).bindparams(bindparam("position", type_=BigInteger))
    session.execute(statement, {"stream": stream, "position": position, "conversation": conversation, "actor": actor})


@by_each_way
def test_who_takes_no_part_writes_no_event_of_it_and_takes_no_place(transactions: Transactions, streams: dict[str, str | None], way: str) -> None:
    for stream, conversation in streams.items():
        for position in (1, 4, None):
            for told in {conversation, None, "commons"}:
                for actor in ("eve", "ada"):
                    with pytest.raises(ProgrammingError, match=REFUSED), transactions.begin("eve") as session:
                        _append(session, stream, told, position=position, actor=actor, way=way)
        with pytest.raises(ProgrammingError, match="is not one that eve writes in"), transactions.begin("eve") as session:
            event_log.advance(session, stream)
    # Nothing stands in the way of who comes next.
    with transactions.begin("ada") as session:
        messages.send(session, "welcome", conversation_id="nt", to="dan")


@by_each_way
def test_a_member_writes_events_of_it_behind_the_others(transactions: Transactions, streams: dict[str, str | None], way: str) -> None:
    for stream, conversation in streams.items():
        with transactions.begin("ada") as session:
            _append(session, stream, conversation, actor="ada", way=way)
            session.rollback()
        for told in {"nt", None, "commons"} - {conversation}:
            with pytest.raises(ProgrammingError, match=REFUSED), transactions.begin("ada") as session:
                _append(session, stream, told, actor="ada", way=way)
        for position in (0, 99):
            with pytest.raises(ProgrammingError, match=REFUSED), transactions.begin("ada") as session:
                _append(session, stream, conversation, position=position, actor="ada", way=way)
        with pytest.raises(ProgrammingError, match=REFUSED), transactions.begin("ada") as session:
            _append(session, stream, conversation, actor="bob", way=way)


def test_a_place_that_is_taken_has_its_event_before_the_end(transactions: Transactions, streams: dict[str, str | None]) -> None:
    for stream in streams:
        with pytest.raises(ProgrammingError, match="no event stands there"), transactions.begin("ada") as session:
            event_log.advance(session, stream)
    with transactions.begin("eve") as session:
        # Inboxes have none.
        event_log.advance(session, "inbox:bob")


@pytest.mark.parametrize("steps", ["append take", "take append", "append take append", "take take tell"])
@pytest.mark.parametrize("stream", ["agent:ada", "messages:nt"])
def test_an_event_beside_a_place_that_was_taken_does_not_stand_for_its_own(
    transactions: Transactions, streams: dict[str, str | None], steps: str, stream: str
) -> None:
    with pytest.raises(ProgrammingError, match="no event stands there"), transactions.begin("ada") as session:
        for step in steps.split():
            if step == "take":
                taken = event_log.advance(session, stream)
            else:
                _append(session, stream, streams[stream], position=taken if step == "tell" else None, actor="ada", way="function")


@pytest.mark.tampers
def test_who_takes_a_place_and_appends_there_by_the_function_is_held_up_by_nothing(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        _append(session, "agent:ada", None, actor="ada", way="function")
        _append(session, "agent:ada", None, position=event_log.advance(session, "agent:ada"), actor="ada", way="function")
        _append(session, "agent:ada", None, actor="ada")
        told = session.scalars(text("SELECT position FROM events WHERE stream = 'agent:ada' AND type = 'task.completed' ORDER BY sequence")).all()
        counted = session.scalar(text("SELECT max(position) FROM events WHERE stream = 'agent:ada'"))
    assert list(told) == [counted - 2, counted - 1, counted]


@pytest.mark.tampers
def test_an_event_that_cannot_be_written_leaves_no_place_taken(transactions: Transactions) -> None:
    refused = text("SELECT federation_append('agent:ada', NULL, 'task.completed', 'ada', NULL, NULL, NULL, 't')")
    with transactions.begin("ada") as session:
        for _ in range(3):
            with pytest.raises(IntegrityError, match="payload"), session.begin_nested():
                session.execute(refused)
        _append(session, "agent:ada", None, actor="ada", way="function")
    with transactions.begin("test:hand") as session:
        rows = "(SELECT count(*) FROM events WHERE stream = name)"
        assert session.scalar(text(f"SELECT position = {rows} FROM streams WHERE name = 'agent:ada'"))


def test_nobody_who_only_reads_calls_the_function(postgres: Any, database: str) -> None:
    with psycopg.connect(postgres.as_role("federation_auditor", database)) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT federation_append('agent:ada', NULL, 'task.completed', 'ada', NULL, NULL, '{}', 't')")


@by_each_way
@pytest.mark.parametrize("stream", ["nonsense", "graph", "executions", "node:aorus", "feed:x", "task:x", "conversation:", "agent:", "inbox:eve"])
def test_a_stream_that_is_nobodys_is_not_an_agents(transactions: Transactions, stream: str, way: str) -> None:
    with pytest.raises(ProgrammingError, match=REFUSED), transactions.begin("eve") as session:
        _append(session, stream, None, actor="eve", way=way)


@pytest.mark.tampers
def test_who_opens_a_conversation_tells_of_it_in_the_same_transaction(transactions: Transactions) -> None:
    with transactions.begin("eve") as session:
        conversations.open_for(session, "mine", ["bob"])
        _append(session, "artifacts:mine", "mine", actor="eve")
    with transactions.begin("bob") as session:
        told = session.execute(text("SELECT type, position FROM events WHERE stream = 'conversation:mine' ORDER BY position")).all()
    assert [tuple(one) for one in told] == [("conversation.opened", 1), ("conversation.joined", 2), ("conversation.joined", 3)]


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_of_a_row_that_stands_an_agent_changes_only_what_changes(postgres: Any, database: str, table: str) -> None:
    with psycopg.connect(postgres.as_role("federation_app", database), autocommit=True) as connection:
        connection.execute("SELECT set_config('federation.actor', 'ada', false)")
        changed = set()
        for column in Base.metadata.tables[table].columns:
            try:
                connection.execute(f"UPDATE {table} SET {column.name} = DEFAULT WHERE false")
            except errors.InsufficientPrivilege:
                continue
            changed.add(column.name)
    assert changed == CHANGES.get(table, set())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agent_tasks SET description = 'EVIL', created_by = 'bob'",
        "UPDATE executions SET kwargs = '{}'",
        "UPDATE executions SET actor = 'bob'",
        "UPDATE conversations SET created_by = 'bob'",
    ],
)
def test_what_others_made_stays_theirs(transactions: Transactions, streams: dict[str, str | None], statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), transactions.begin("bob") as session:
        session.execute(text(statement))


NOW = "completed_at = clock_timestamp(), updated_by = 'bob'"
NOT_HIS = "is not held by bob"
# Where the task stands that bob writes into, what he writes, and why not.
OF_OTHERS = [
    ("pending", "status = 'running', assigned_to = 'bob'", NOT_HIS),
    ("pending", """status = 'failed', assigned_to = 'bob', result = '{"by": "bob"}'""", NOT_HIS),
    ("pending", "status = 'expired'", "ends by its time"),
    ("pending", "status = 'cancelled', result = '{}'", "is ended by who says that he does"),
    ("pending", """status = 'cancelled', result = '{"cancelled_by": "ada"}'""", "is ended by who says that he does"),
    ("pending", "result = '{}'", "has a result when it ends"),
    ("pending", "decided_by = 'bob'", "is decided on once"),
    ("running", """status = 'completed', result = '{"by": "bob"}'""", NOT_HIS),
    ("running", """status = 'completed', assigned_to = 'bob', result = '{"by": "bob"}'""", NOT_HIS),
    ("running", "assigned_to = 'bob'", NOT_HIS),
    ("running", "status = 'pending', assigned_to = NULL", "is held by ada"),
    ("running", "result = '{}'", "has a result when it ends|is not held by bob"),
    ("completed", "result = '{}'", "has a result when it ends|is not held by bob"),
    ("awaiting_approval", "status = 'pending'", "is decided on once"),
    ("awaiting_approval", "status = 'pending', decided_by = 'ada'", "is decided on once"),
    ("awaiting_approval", """status = 'cancelled', decided_by = 'ada', result = '{"rejected_by": "bob"}'""", "is decided on once"),
    ("approved", "decided_by = NULL", "is decided on once"),
]


def _task(transactions: Transactions, stands: str) -> Any:
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "Look", slug="look", requires_approval=stands in {"awaiting_approval", "approved"}).id
    if stands == "approved":
        with transactions.begin("cli:root") as session:
            approvals.settle(session, tasks.find(session, "look"), Decision.APPROVE, reason="fine")
    if stands in {"running", "completed"}:
        with transactions.begin("ada") as session:
            token = task_claims.claim(session, "look", description="", ttl_s=60).fencing_token
    if stands == "completed":
        with transactions.begin("ada") as session:
            task_claims.complete(session, "look", fencing_token=token or 0, result={"by": "ada"})
    return task


@pytest.mark.parametrize(("stands", "written", "says"), OF_OTHERS)
def test_who_does_not_hold_a_task_writes_no_step_of_it(transactions: Transactions, stands: str, written: str, says: str) -> None:
    task = _task(transactions, stands)
    with pytest.raises(ProgrammingError, match=says), transactions.begin("bob") as session:
        session.execute(text(f"UPDATE agent_tasks SET {written}, {NOW} WHERE id = '{task}'"))


def test_what_nobody_holds_any_more_goes_on_and_who_failed_takes_its_parts_with_it(transactions: Transactions) -> None:
    _task(transactions, "running")
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claims SET expires_at = clock_timestamp()"))
    with transactions.begin("bob") as session:
        token = task_claims.claim(session, "look", description="", ttl_s=60).fencing_token
        tasks.delegate(session, "A part", slug="part", parent="look")
    with transactions.begin("test:hand") as session:
        # What has lapsed and was taken by nobody is still his who held it last.
        session.execute(text("UPDATE claims SET expires_at = clock_timestamp() + interval '1 minute'"))
    with transactions.begin("bob") as session:
        task_claims.complete(session, "look", fencing_token=token or 0, result={"why": "no logs"}, success=False)
        assert tasks.find(session, "part").status == "cancelled"
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Another", slug="other")
        assert task_ends.cancel(session, "other", reason="enough").status == "cancelled"


@pytest.mark.parametrize("table", ["agent_tasks", "conversations", "agent_sessions"])
def test_who_changes_a_row_says_that_it_was_he(transactions: Transactions, streams: dict[str, str | None], table: str) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("bob") as session:
        session.execute(text(f"UPDATE {table} SET updated_by = 'ada'"))
    with transactions.begin("bob") as session:
        assert session.execute(text(f"UPDATE {table} SET updated_by = 'bob'")).rowcount
        session.rollback()
