"""What agents remember: who sees it, in rows, recall, events and errors; that it is found by its words, and that forgetting leaves none of it."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import func, select, text
from sqlalchemy.exc import ProgrammingError

from federation.errors import InvalidInput, NotFound, OverQuota, Refused
from federation.services import cop, history, limits, memories, messages, outcomes
from federation.services.memories import Ranked, Remembered
from federation.settings import Settings
from federation.store.models.memories import Memory
from federation.transaction import Transactions

EVERYBODY = ("ada", "bob", "dan", "eve")
SECRET = "the password of the vault is swordfish"
MEMBERS = {"visibility": "members", "conversation_id": "secret"}


def remember(transactions: Transactions, who: str, content: str = SECRET, **more: Any) -> Remembered:
    with transactions.begin(who) as session:
        return memories.remember(session, content, **more)


def forget(transactions: Transactions, who: str, memory_id: uuid.UUID) -> None:
    with transactions.begin(who) as session:
        memories.forget(session, memory_id)


def latest(transactions: Transactions, who: str, **more: Any) -> list[str]:
    with transactions.begin(who) as session:
        return [each.content for each in memories.latest(session, **more).memories]


def found(transactions: Transactions, who: str, query: str, **more: Any) -> list[str]:
    with transactions.begin(who) as session:
        return [each.content for each in memories.show(session, memories.by_words(session, query, limit=50, **more))]


def seen(transactions: Transactions, who: str) -> list[str]:
    """Return what somebody sees of all texts, as by a query that somebody forgot a condition in."""
    with transactions.begin(who) as session:
        return list(session.scalars(select(Memory.content)))


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("for_whom", "readers"),
    [
        ({}, {"bob"}),
        ({"visibility": "nobody"}, {"bob"}),
        (MEMBERS, {"bob", "eve"}),
        ({"conversation_id": "secret"}, {"bob", "eve"}),
        ({"visibility": "role"}, {"bob", "dan"}),
        ({"visibility": "all"}, set(EVERYBODY)),
    ],
)
def test_those_recall_a_memory_for_whom_it_is(transactions: Transactions, for_whom: dict[str, str], readers: set[str]) -> None:
    kept = remember(transactions, "bob", about=["vault"], **for_whom)
    ranked = [Ranked(kept.memory_id, 1.0)]
    for name in EVERYBODY:
        expected = [SECRET] if name in readers else []
        assert latest(transactions, name) == latest(transactions, name, about=["vault"]) == found(transactions, name, "swordfish") == expected
        assert seen(transactions, name) == expected
        with transactions.begin(name) as session:
            # Whatever LanceDB ranks, PostgreSQL shows.
            assert [each.content for each in memories.show(session, ranked)] == expected
            assert len(memories.collections(session)) == len(memories.about_all(session, ["vault"])) == len(expected)
            assert (memories.unsettled(session, kept.memory_id) is None) is not bool(expected)


def test_what_is_not_for_one_is_answered_as_what_never_was(transactions: Transactions) -> None:
    def asked(memory_id: uuid.UUID) -> str:
        with pytest.raises(NotFound) as told:
            forget(transactions, "eve", memory_id)
        return str(told.value).replace(str(memory_id), "…")

    never = asked(uuid.uuid4())
    assert asked(remember(transactions, "bob").memory_id) == never
    # Nor does it matter to who remembers the same.
    assert remember(transactions, "eve").new


def test_another_actor_reads_and_writes_nothing_of_it_in_sql(transactions: Transactions) -> None:
    remember(transactions, "bob")
    with transactions.begin("eve") as session:
        for statement in ("UPDATE memories SET vector_at = now(), updated_by = 'eve'", "DELETE FROM memories"):
            assert session.execute(text(statement)).rowcount == 0
    row = "INSERT INTO memories (visibility, audience, content, about, salt, digest, words, created_by) VALUES (:v, :a, 'x', '{}', :s, 'd', '', :by)"
    for visibility, audience, by in (("nobody", "bob", "bob"), ("nobody", "bob", "eve"), ("members", "secret", "eve"), ("role", "developer", "eve")):
        with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("eve") as session:
            session.execute(text(row), {"v": visibility, "a": audience, "s": uuid.uuid4(), "by": by})
    with pytest.raises(ProgrammingError, match="permission denied"), transactions.begin("bob") as session:
        # Not even its author gives it to others afterwards.
        session.execute(text("UPDATE memories SET visibility = 'role', audience = 'lead'"))


@pytest.mark.parametrize("role", ["service", "auditor"])
def test_operators_and_auditors_know_that_it_is_there_and_not_what_it_says(
    postgres: Any, database: str, transactions: Transactions, role: str
) -> None:
    remember(transactions, "bob")
    with psycopg.connect(postgres.as_role(f"federation_{role}", database), autocommit=True) as connection:
        assert connection.execute("SELECT created_by, visibility FROM memories").fetchall() == [("bob", "nobody")]
        for column in ("content", "about", "salt", "words", "message_id", "*"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(f"SELECT {column} FROM memories")


def _everywhere(database: str) -> dict[str, int]:
    """Return the tables in whose rows the secret stands, and in how many."""
    with psycopg.connect(database) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        counts = {table: connection.execute(f"SELECT count(*) FROM {table} t WHERE t::text ~* 'swordfish'").fetchone() for table in tables}
    return {table: row[0] for table, row in counts.items() if row and row[0]}


@pytest.mark.parametrize("visibility", ["nobody", "all"])
def test_its_text_is_in_one_row_and_nowhere_once_that_is_forgotten(
    database: str, transactions: Transactions, publisher: Any, visibility: str
) -> None:
    kept = remember(transactions, "bob", about=["swordfish"], visibility=visibility)
    assert _everywhere(database) == {"memories": 1}
    forget(transactions, "bob", kept.memory_id)
    assert _everywhere(database) == {}
    assert latest(transactions, "bob") == found(transactions, "bob", "swordfish") == []
    with psycopg.connect(database) as connection:
        told = connection.execute(
            "SELECT type, actor, payload FROM events WHERE stream = %s ORDER BY position", [f"memory:{kept.memory_id}"]
        ).fetchall()
        assert [(kind, actor) for kind, actor, _ in told] == [("memory.remembered", "bob"), ("memory.forgotten", "bob")]
        assert {each["memory_id"] for *_, each in told} == {str(kept.memory_id)}
        asked = connection.execute("SELECT id, kwargs FROM executions WHERE task_name = %s ORDER BY created_at", [memories.SETTLE]).fetchall()
    # What brings LanceDB up to date is told the id alone.
    assert [kwargs for _, kwargs in asked] == [{"memory_id": str(kept.memory_id)}] * 2
    assert publisher.published == [execution_id for execution_id, _ in asked]


def test_others_see_nothing_of_it_in_the_pulse_the_history_and_executions(transactions: Transactions) -> None:
    remember(transactions, "bob")
    with transactions.begin("eve") as session:
        shown = [cop.pulse(session, node_stale_s=60, agent_stale_s=60), history.page(session, "commons")]
        assert "swordfish" not in json.dumps(shown, default=str)
        assert session.scalar(text("SELECT count(*) FROM executions")) == 0
        assert session.scalar(text("SELECT count(*) FROM events")) == 0


def test_the_logs_digest_confirms_no_guess(transactions: Transactions) -> None:
    first = remember(transactions, "bob")
    forget(transactions, "bob", first.memory_id)
    second = remember(transactions, "bob")
    with transactions.begin("test:hand") as session:
        digests = list(session.scalars(text("SELECT payload->>'digest' FROM events WHERE type = 'memory.remembered'")))
    # Of one text, with salts that went with their rows.
    assert len(set(digests)) == 2
    assert second.memory_id != first.memory_id


@pytest.mark.usefixtures("_secret")
def test_only_who_remembered_it_forgets_it(transactions: Transactions) -> None:
    kept = remember(transactions, "bob", **MEMBERS)
    with pytest.raises(Refused, match=r"this memory is bob's.*federation_send"):
        forget(transactions, "eve", kept.memory_id)
    assert latest(transactions, "eve") == [SECRET]
    forget(transactions, "bob", kept.memory_id)
    assert latest(transactions, "eve") == []
    with pytest.raises(NotFound):
        forget(transactions, "bob", kept.memory_id)


def test_the_same_for_the_same_is_one_memory(transactions: Transactions) -> None:
    first = remember(transactions, "bob", about=["one"])
    again = remember(transactions, "bob", about=["two"])
    assert (again.memory_id, first.new, again.new) == (first.memory_id, True, False)
    assert remember(transactions, "bob", visibility="all").new
    with transactions.begin("bob") as session:
        assert sorted(session.scalars(select(func.cardinality(Memory.about)))) == [0, 1]


def test_words_find_the_memory_that_has_the_rarest_of_them(transactions: Transactions) -> None:
    for content in (
        "The build runs on every push to the main branch",
        "The staging database is restored from the build server's backup every night",
        "ensureConnection in src/broker/dialing.py retries five times",
        "The team meets on Tuesday about the build",
    ):
        remember(transactions, "bob", content)
    for query, part in (
        ("when is the staging database restored", "staging"),
        ("connection retries", "ensureConnection"),
        ("dialing", "ensureConnection"),
        ("what does the build do at a push", "push"),
        ("meeting of the team", "Tuesday"),
        ("it's o'clock \\ 'quoted' & | ! <-> :*", ""),
    ):
        answers = found(transactions, "bob", query)
        assert part in (answers[0] if answers else ""), query
    assert found(transactions, "bob", "the of and") == []
    assert found(transactions, "bob", "build", about=["nothing"]) == []
    # Nor do others' memories weigh in.
    before = [each.score for each in ranked(transactions, "bob", "build push")]
    for number in range(5):
        remember(transactions, "eve", f"push {number}")
    assert [each.score for each in ranked(transactions, "bob", "build push")] == before


def ranked(transactions: Transactions, who: str, query: str) -> list[Ranked]:
    with transactions.begin(who) as session:
        return memories.by_words(session, query, limit=50)


def test_without_a_query_the_latest_come_first_page_by_page(transactions: Transactions) -> None:
    for number in range(5):
        remember(transactions, "bob", f"number {number}", about=["even" if number % 2 == 0 else "odd", "number"])
    assert latest(transactions, "bob", limit=2) == ["number 4", "number 3"]
    with transactions.begin("bob") as session:
        first = memories.latest(session, limit=2)
        assert first.before == first.memories[-1].created_at
        assert memories.latest(session, before=first.before).before is None
        assert memories.latest(session, limit=5).before is None
    assert latest(transactions, "bob", before=first.before) == ["number 2", "number 1", "number 0"]
    assert latest(transactions, "bob", about=["number", "odd"]) == ["number 3", "number 1"]


def test_an_answer_has_as_many_as_are_read_at_once_and_all_are_reached_page_by_page(transactions: Transactions) -> None:
    for number in range(50):
        remember(transactions, "bob", f"{number} " + "ö" * 3_990)
    read, before = [], None
    with transactions.begin("bob") as session:
        for _ in range(10):
            page = memories.latest(session, before=before, limit=50)
            assert 0 < sum(len(each.content.encode()) for each in page.memories) <= memories.LARGEST_ANSWER_BYTES
            read += [int(each.content.split()[0]) for each in page.memories]
            if (before := page.before) is None:
                break
    assert read == list(range(49, -1, -1))


@pytest.mark.usefixtures("_secret")
def test_a_memory_tells_the_message_it_was_learnt_from_to_who_may_read_that(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        said = messages.send(session, "the vault is open", conversation_id="secret")
    with pytest.raises(NotFound, match="no message"):
        remember(transactions, "dan", message_id=said.message_id)
    remember(transactions, "eve", message_id=said.message_id, visibility="all")
    for name, source in (("bob", ("secret", said.position)), ("dan", (None, None))):
        with transactions.begin(name) as session:
            [recalled] = memories.latest(session).memories
        assert (recalled.conversation_id, recalled.position, recalled.by) == (*source, "eve")


def test_what_was_altered_beside_the_program_is_shown_to_nobody(database: str, transactions: Transactions, caplog: pytest.LogCaptureFixture) -> None:
    kept = remember(transactions, "bob", "deploy on Monday", visibility="all")
    remember(transactions, "bob", "the other", visibility="all")
    with psycopg.connect(database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute("UPDATE memories SET content = 'deploy now', updated_by = 'test:hand' WHERE id = %s", [kept.memory_id])
    assert latest(transactions, "eve") == ["the other"]
    assert ("memory.altered", str(kept.memory_id)) in [(each.message, getattr(each, "memory_id", "")) for each in caplog.records]


@pytest.mark.parametrize(
    ("more", "error", "told"),
    [
        ({"content": " "}, InvalidInput, "content"),
        ({"content": "x" * 4001}, InvalidInput, "4001 characters.*at most 4000"),
        ({"visibility": "friends"}, InvalidInput, "one of all, members, role, nobody"),
        ({"visibility": "all", "conversation_id": "secret"}, InvalidInput, "visibility='members' beside it"),
        ({"conversation_id": "nowhere"}, NotFound, "no conversation"),
        ({"about": ["two words"]}, InvalidInput, "about"),
        ({"about": [f"n{number}" for number in range(17)]}, InvalidInput, "at most 16"),
        ({"message_id": uuid.UUID(int=1)}, NotFound, "no message"),
    ],
)
def test_what_cannot_be_remembered_is_told_and_leaves_nothing(
    transactions: Transactions, more: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        remember(transactions, "bob", **{"content": SECRET, **more})
    assert seen(transactions, "bob") == []


def test_an_agent_remembers_so_many_things(transactions: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: Settings(memories_per_agent=2))
    one, _ = (remember(transactions, "bob", f"number {number}") for number in range(2))
    with pytest.raises(OverQuota, match=r"bob may remember 2 things, and does.*federation_forget.*FEDERATION_MEMORIES_PER_AGENT"):
        remember(transactions, "bob", "number 2")
    assert not remember(transactions, "bob", "number 0").new, "what is there already takes no room"
    assert remember(transactions, "eve", "number 2").new
    forget(transactions, "bob", one.memory_id)
    assert remember(transactions, "bob", "number 2").new


def test_a_recall_is_asked_for_and_seen_by_its_asker_alone(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        asked = memories.request_ranking(session, SECRET)
    with transactions.begin("eve") as session, pytest.raises(NotFound):
        outcomes.require_asker(session, asked)


def test_a_vector_that_comes_after_its_memory_was_forgotten_is_not_kept(transactions: Transactions) -> None:
    kept = remember(transactions, "bob")

    def record() -> bool:
        with transactions.begin("bob") as session:
            return memories.record_vector(session, kept.memory_id, node="aorus", model="m")

    events: Callable[[], int] = lambda: len(_types(transactions, kept.memory_id))  # noqa: E731
    assert record()
    assert (record(), events()) == (True, 2), "told once, however often it is delivered"
    forget(transactions, "bob", kept.memory_id)
    assert not record()


def _types(transactions: Transactions, memory_id: uuid.UUID) -> list[str]:
    with transactions.begin("test:hand") as session:
        return list(session.scalars(text("SELECT type FROM events WHERE stream = :stream"), {"stream": f"memory:{memory_id}"}))
