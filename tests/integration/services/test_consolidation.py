"""What is consolidated of private memories, what is left alone, whom it is done for, and that the log tells of it."""

from typing import Any

import psycopg
import pytest

from federation.services import consolidation, memories
from federation.services.consolidation import Own
from federation.services.replay import replay
from federation.transaction import Transactions, connect, reading

BEAT = "service:beat"


def remember(transactions: Transactions, who: str, content: str, **more: Any) -> Any:
    with transactions.begin(who) as session:
        return memories.remember(session, content, **more).memory_id


def own(transactions: Transactions, who: str) -> list[Own]:
    with transactions.begin(who) as session:
        return consolidation.own(session)


@pytest.mark.parametrize(
    ("earlier", "later", "said"),
    [
        ("Deploys need the VPN", "The deploys need a VPN.", True),
        ("Deploys need the VPN", "Deploys need the VPN and two approvals", True),
        ("Deploys need the VPN and two approvals", "Deploys need the VPN", False),
        ("Deploys are allowed on Friday", "Deploys are forbidden on Friday", False),
        ("Deploys need the VPN", "Deploys do not need the VPN", False),
        ("Deploys need the VPN", "Deploys don't need the VPN", False),
        ("The port is 8080", "The port is 8081", False),
        ("The server calls the client", "The client calls the server", False),
        ("Bob reviews Eve", "Eve reviews Bob", False),
        ("It is in src/a.py", "It is in src/b.py", False),
        ("the of and", "of the", False),
    ],
)
def test_what_says_the_same_is_known_by_words_names_numbers_and_denials(transactions: Transactions, earlier: str, later: str, said: bool) -> None:
    for content in (earlier, later):
        remember(transactions, "bob", content)
    one, other = own(transactions, "bob")
    assert consolidation.says_all_of(other, one) is said


def test_what_has_a_subject_or_a_source_of_its_own_stays(transactions: Transactions) -> None:
    remember(transactions, "bob", "Deploys need the VPN", about=["deploy"])
    remember(transactions, "bob", "The deploys need the VPN", about=["vpn"])
    remember(transactions, "bob", "The deploys need a VPN", about=["vpn", "deploy"])
    one, two, three = own(transactions, "bob")
    assert [consolidation.says_all_of(two, one), consolidation.says_all_of(three, one), consolidation.says_all_of(three, two)] == [False, True, True]


def test_what_is_merged_is_told_and_what_stays_is_as_it_was(transactions: Transactions, database: str, postgres: Any) -> None:
    gone = remember(transactions, "bob", "Deploys need the VPN")
    kept = remember(transactions, "bob", "The deploys need a VPN")
    others = remember(transactions, "eve", "Deploys need the VPN")
    with transactions.begin("bob") as session:
        # Nobody merges another's.
        assert consolidation.merge(session, [(others, kept), (gone, others)]) == 0
        assert consolidation.merge(session, [(gone, kept), (gone, kept)]) == 1
        assert [each.memory_id for each in memories.latest(session).memories] == [kept]
        memories.forget(session, kept)
    with psycopg.connect(database) as connection:
        told = connection.execute("SELECT actor, payload - 'version' FROM events WHERE type = 'memory.merged'").fetchall()
        assert told == [("bob", {"memory_id": str(gone), "into": str(kept)})]
    engine = connect(postgres.as_role("federation_auditor", database))
    with reading(engine) as session:
        assert replay(session).differences == []
    engine.dispose()


def test_each_who_remembers_much_for_itself_is_consolidated_in_its_name_once_a_day(
    transactions: Transactions, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidation, "WORTH_IT", 2)
    for number in range(3):
        remember(transactions, "bob", f"number {number}")
        remember(transactions, "eve", f"number {number}", visibility="all")
    due = []
    for _ in range(2):
        with transactions.begin(BEAT) as session:
            due.append(consolidation.request_due(session))
    assert due == [1, 0]
    with psycopg.connect(database) as connection:
        asked = "SELECT actor, kwargs FROM executions WHERE task_name = %s"
        assert connection.execute(asked, [consolidation.CONSOLIDATE]).fetchall() == [("bob", {})]
