"""The graph: read from messages and findings as the log grows, walked from thing to thing, and seen as far as what it was read from."""

from typing import Any

import pytest
from sqlalchemy import text

from federation.services import findings, graph, messages, sessions, tasks
from federation.services.findings import Said
from federation.services.graph import Path
from federation.services.sessions import Start
from federation.store import event_log, event_order
from federation.transaction import Transactions

BEAT = "service:beat"
ROOM = {"conversation_id": "secret"}


def read_on(transactions: Transactions) -> int:
    """Number the events, and read on until there is nothing more; return how often that took."""
    with transactions.begin(BEAT) as session:
        settled = session.scalar(text("SELECT coalesce(max(sequence), 0) FROM event_order"))
        while event_order.give_numbers(session, settled=settled, limit=100_000)[0]:
            pass
    times = 1
    while True:
        with transactions.begin(BEAT) as session:
            if not graph.read_on(session):
                return times
        times += 1


def say(transactions: Transactions, who: str, content: str, **more: Any) -> Any:
    with transactions.begin(who) as session:
        return messages.send(session, content, **more)


def walk(transactions: Transactions, who: str, *about: str, **more: Any) -> list[Path]:
    with transactions.begin(who) as session:
        return graph.walk(session, about, **more)


def reached(transactions: Transactions, who: str, *about: str, **more: Any) -> dict[str, list[str]]:
    """Return what is reached, and by which steps."""
    return {each.to: [f"{step.subject} {step.relation} {step.object}" for step in each.steps] for each in walk(transactions, who, *about, **more)}


@pytest.fixture
def said(transactions: Transactions) -> Transactions:
    """What everybody may read, what bob and ada alone may, and what bob found."""
    say(transactions, "bob", "api.corp runs on 10.0.0.7")
    say(transactions, "dan", "10.0.0.7 uses postgres v18.1, see src/db/pool.py")
    say(transactions, "ada", "10.0.0.7 is owned by eve", to="bob", **ROOM)
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Look", slug="look-into-it", **ROOM)
        sessions.join(session, "INC-1", Start(context={"task": "find the leak"}), **ROOM)
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-1", Start())
        evidence = [{"source": "logs", "query": "grep pool.py", "result": "PoolTimeout"}]
        findings.post(
            session, "INC-1", Said(content="The PoolTimeout comes from 10.0.0.7", category="observation", confidence=0.5, evidence=evidence)
        )
    return transactions


def test_things_are_reached_over_what_was_said_with_who_said_it(said: Transactions) -> None:
    assert read_on(said) == 1
    assert reached(said, "eve", "api.corp", hops=1) == {
        "host:10.0.0.7": ["host:api.corp runs on host:10.0.0.7"],
        "agent:bob": ["agent:bob mentions host:api.corp"],
    }
    two = reached(said, "eve", "api.corp")
    assert two["version:postgres 18.1"] == ["host:api.corp runs on host:10.0.0.7", "host:10.0.0.7 uses version:postgres 18.1"]
    assert two["agent:dan"][-1] == "agent:dan mentions host:10.0.0.7"
    assert "file:src/db/pool.py" not in two
    assert "file:src/db/pool.py" in reached(said, "eve", "api.corp", hops=3)
    [first] = [each for each in walk(said, "eve", "api.corp") if each.to == "host:10.0.0.7"]
    [step] = first.steps
    assert (step.by, step.conversation_id, step.source, step.quote) == ("bob", "commons", "message", "api.corp runs on 10.0.0.7")


def test_nobody_reaches_anything_over_what_he_may_not_read(said: Transactions) -> None:
    read_on(said)
    for name, sees_finding, sees_word in (("ada", True, True), ("bob", True, True), ("eve", False, False)):
        found = reached(said, name, "10.0.0.7")
        assert ("error:PoolTimeout" in found, found.get("agent:eve") == ["agent:eve owns host:10.0.0.7"]) == (sees_finding, sees_word), name
    with said.begin("eve") as session:
        assert {row[0] for row in session.execute(text("SELECT conversation_id FROM graph_relations"))} == {"commons"}
    # In the conversation, but the word was bob's alone.
    say(said, "ada", "and you", to="dan", **ROOM)
    found = reached(said, "dan", "10.0.0.7")
    assert ("error:PoolTimeout" in found, "agent:eve" in found) == (True, False)


def test_what_a_session_is_about_and_names_of_the_conversation_are_known_there_alone(said: Transactions) -> None:
    say(said, "ada", "look-into-it waits for 10.0.0.9", **ROOM)
    say(said, "eve", "look-into-it waits for 10.0.0.9")
    read_on(said)
    assert reached(said, "bob", "INC-1", hops=1)["host:10.0.0.7"] == ["session:INC-1 is about host:10.0.0.7"]
    assert reached(said, "bob", "look-into-it", hops=1)["host:10.0.0.9"] == ["host:10.0.0.9 blocks task:look-into-it"]
    assert reached(said, "eve", "look-into-it") == {}


def test_it_is_read_once_in_parts_and_goes_on_where_it_was(said: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "AT_ONCE", 3)
    monkeypatch.setattr(graph, "CHARACTERS", 60)
    assert read_on(said) > 3
    monkeypatch.undo()
    whole = reached(said, "bob", "10.0.0.7")
    with said.begin(BEAT) as session:
        before = session.scalar(text("SELECT count(*) FROM graph_relations"))
        # As if it had been read and the place forgotten.
        monkeypatch.setattr(graph, "_READ_SO_FAR", text("SELECT 0"))
        monkeypatch.setattr(graph, "AT_ONCE", 10_000)
        assert not graph.read_on(session)
        assert session.scalar(text("SELECT count(*) FROM graph_relations")) == before
    assert reached(said, "bob", "10.0.0.7") == whole


@pytest.mark.tampers
def test_an_event_that_names_no_message_hides_no_other(said: Transactions) -> None:
    with said.begin("node:evil") as session:
        for named in ("nonsense", None):
            event_log.append(session, "message.sent", "node:evil", payload={"message_id": named})
    say(said, "dan", "10.0.0.9 blocks 10.0.0.7")
    read_on(said)
    assert reached(said, "bob", "10.0.0.7", hops=1)["host:10.0.0.9"] == ["host:10.0.0.9 blocks host:10.0.0.7"]


def test_nothing_is_written_where_nothing_was_said(said: Transactions) -> None:
    read_on(said)
    count = "SELECT count(*) FROM events WHERE type = 'graph.extracted'"
    with said.begin(BEAT) as session:
        assert session.scalar(text(count)) == 1
    read_on(said)
    read_on(said)
    with said.begin(BEAT) as session:
        assert session.scalar(text(count)) == 1


def test_a_thing_is_found_by_the_last_part_of_its_path(said: Transactions) -> None:
    read_on(said)
    assert reached(said, "eve", "pool.py", hops=1) == reached(said, "eve", "file:src/db/pool.py", hops=1) != {}
    for nothing in ("nowhere.py", "%.py", "_ool.py", "'"):
        assert reached(said, "eve", nothing) == {}


def test_a_file_that_is_named_without_its_folder_somewhere_hides_none_in_a_folder(said: Transactions) -> None:
    read_on(said)
    found = reached(said, "bob", "pool.py", hops=1)
    assert found["session:INC-1"] == ["session:INC-1 is about file:pool.py"]
    assert found["version:postgres 18.1"] == ["file:src/db/pool.py mentioned with version:postgres 18.1"]
    assert "version:postgres 18.1" not in reached(said, "bob", "file:pool.py", hops=1), "with its kind it is that alone"
    assert "file:pool.py" not in reached(said, "bob", "src/db/pool.py", hops=1)


def test_what_evidence_says_is_quoted_from_it(said: Transactions) -> None:
    read_on(said)
    quotes = {each.to: each.steps[-1].quote for about in ("file:pool.py", "10.0.0.7") for each in walk(said, "bob", about, hops=1)}
    assert quotes["session:INC-1"] == "The PoolTimeout comes from 10.0.0.7"
    assert {each.steps[0].quote for each in walk(said, "bob", "file:pool.py", hops=1)} == {"grep pool.py"}


def test_a_walk_is_bounded_and_does_not_go_through_who_speaks_of_everything(transactions: Transactions) -> None:
    for number in range(60):
        say(transactions, "bob", f"hub.py uses n{number}.py")
        say(transactions, "bob", f"n{number}.py uses n{(number + 1) % 60}.py")
    say(transactions, "bob", "apart.py is slow")
    read_on(transactions)
    assert len(reached(transactions, "eve", "hub.py", hops=3, limit=10)) == 10
    near = reached(transactions, "eve", "hub.py", hops=1, limit=100)
    assert len(near) == graph.FAN
    assert "file:n59.py" in near
    assert "file:apart.py" not in reached(transactions, "eve", "hub.py", hops=3, limit=1000)
    assert "file:apart.py" in reached(transactions, "eve", "bob", hops=1, limit=1000)
