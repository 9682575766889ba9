"""Memories without a vector: embedded again, less and less often, and given up; what operators see of memories, and what they remove."""

import uuid
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from federation.errors import NotFound, Refused
from federation.services import executions, memories, memory_care
from federation.services.memory_care import Kept
from federation.transaction import Transactions

BEAT, OPERATOR = "service:beat", "cli:root"


def remember(transactions: Transactions, who: str, content: str, **more: Any) -> uuid.UUID:
    with transactions.begin(who) as session:
        return memories.remember(session, content, **more).memory_id


def embed_again(transactions: Transactions) -> tuple[int, int]:
    with transactions.begin(BEAT) as session:
        return memory_care.embed_again(session)


def listed(transactions: Transactions) -> list[Kept]:
    with transactions.begin(OPERATOR) as session:
        return list(memory_care.listed(session))


def by_hand(database: str, statement: str, values: dict[str, Any] | None = None) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute(statement, values)


def aged(database: str, minutes: float) -> None:
    """Let so much time go by for all memories and executions."""
    for table, columns in (("memories", ("created_at",)), ("executions", ("created_at", "sent_at"))):
        earlier = ", ".join(f"{column} = {column} - %(minutes)s * interval '1 minute'" for column in columns)
        by_hand(database, f"UPDATE {table} SET {earlier}, updated_by = 'test:hand'", {"minutes": minutes})


def ended(database: str, how: str = "outcome = 'FAILURE'") -> None:
    by_hand(database, f"UPDATE executions SET {how}, updated_by = 'test:hand' WHERE outcome IS NULL")
    by_hand(database, "DELETE FROM outbox")


def asked(database: str) -> list[tuple[str, dict[str, str]]]:
    with psycopg.connect(database) as connection:
        query = "SELECT actor, kwargs FROM executions WHERE task_name = %s ORDER BY created_at"
        return connection.execute(query, [memories.SETTLE]).fetchall()


def told(database: str, memory_id: uuid.UUID) -> list[tuple[str, str]]:
    with psycopg.connect(database) as connection:
        query = "SELECT actor, payload->>'reason' FROM events WHERE type = 'memory.given_up' AND stream = %s"
        return connection.execute(query, [f"memory:{memory_id}"]).fetchall()


def test_what_failed_is_embedded_again_in_its_authors_name_ever_later_and_then_given_up_once(transactions: Transactions, database: str) -> None:
    kept = remember(transactions, "bob", "the vault is open")
    for wait in (1.1, 10.1, 60.1):
        ended(database)
        aged(database, wait - 0.3)
        assert embed_again(transactions) == (0, 0), wait
        aged(database, 0.3)
        assert embed_again(transactions) == (1, 0), wait
        assert embed_again(transactions) == (0, 0), "it is under way"
    assert asked(database) == [("bob", {"memory_id": str(kept)})] * 4
    assert told(database, kept) == []
    ended(database)
    aged(database, 61)
    assert embed_again(transactions) == (0, 1)
    assert embed_again(transactions) == (0, 0)
    [(actor, reason)] = told(database, kept)
    assert (actor, reason.partition("execution")[0], reason[-6:]) == (BEAT, "tried 4 times; the last, ", "failed")
    [shown] = listed(transactions)
    assert (shown.memory_id, shown.embedded, shown.given_up) == (kept, False, reason)
    with transactions.begin(OPERATOR) as session:
        assert memory_care.request_embedding(session) == 1
    with transactions.begin("bob") as session:
        assert memories.record_vector(session, kept, node="aorus", model="m")
    [shown] = listed(transactions)
    assert (shown.embedded, shown.given_up) == (True, None)


def test_what_is_under_way_or_waits_is_left_alone_until_it_must_be_lost(transactions: Transactions, database: str) -> None:
    remember(transactions, "bob", "one")
    aged(database, 600)
    assert embed_again(transactions) == (0, 0), "it waits for a node"
    by_hand(database, "UPDATE executions SET sent_at = clock_timestamp(), updated_by = 'test:hand'")
    by_hand(database, "DELETE FROM outbox")
    assert embed_again(transactions) == (0, 0), "it was sent"
    aged(database, 61)
    assert embed_again(transactions) == (1, 0), "its message must be lost"


def test_a_cancelled_one_is_asked_for_again_and_a_vector_ends_it(transactions: Transactions, database: str) -> None:
    kept = remember(transactions, "bob", "one")
    with transactions.begin("bob") as session:
        [execution_id] = [uuid.UUID(str(row[0])) for row in session.execute(text("SELECT id FROM executions"))]
        assert executions.cancel(session, execution_id, "by a slip")
    aged(database, 2)
    assert embed_again(transactions) == (1, 0)
    ended(database)
    with transactions.begin("bob") as session:
        assert memories.record_vector(session, kept, node="aorus", model="m")
    aged(database, 600)
    assert embed_again(transactions) == (0, 0)


def test_few_are_embedded_again_in_one_look(transactions: Transactions, database: str) -> None:
    for number in range(memory_care.AT_ONCE + 1):
        remember(transactions, "bob", f"number {number}")
    ended(database)
    aged(database, 2)
    assert embed_again(transactions) == (memory_care.AT_ONCE, 0)
    assert embed_again(transactions) == (1, 0)


@pytest.mark.usefixtures("_secret")
def test_an_operator_removes_what_is_for_others_and_sees_nothing_of_it(transactions: Transactions, database: str) -> None:
    shared = remember(transactions, "bob", "the vault is open", visibility="members", conversation_id="secret")
    own = remember(transactions, "bob", "for myself")
    assert {each.memory_id for each in listed(transactions)} == {shared, own}
    assert not any("vault" in str(each) or "myself" in str(each) for each in listed(transactions))
    with (
        pytest.raises(Refused, match=r"bob remembers for itself alone.*federation_forget.*agent rotate bob"),
        transactions.begin(OPERATOR) as session,
    ):
        memory_care.remove(session, own)
    with transactions.begin(OPERATOR) as session:
        memory_care.remove(session, shared)
    with pytest.raises(NotFound), transactions.begin(OPERATOR) as session:
        memory_care.remove(session, shared)
    with transactions.begin("eve") as session:
        assert memories.latest(session).memories == []
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT actor FROM events WHERE type = 'memory.forgotten'").fetchall() == [(OPERATOR,)]
    # What takes its vector away acts as who remembered it, because the program's own parts read no memory.
    assert asked(database)[-1] == ("bob", {"memory_id": str(shared)})


def test_all_are_embedded_anew_where_the_vectors_are_gone(transactions: Transactions, database: str) -> None:
    for number in range(3):
        kept = remember(transactions, "bob", f"number {number}")
        with transactions.begin("bob") as session:
            memories.record_vector(session, kept, node="aorus", model="m")
    ended(database)
    with transactions.begin(OPERATOR) as session:
        assert memory_care.request_embedding(session) == 0
        assert memory_care.request_embedding(session, everything=True) == 3
    assert len(asked(database)) == 6
