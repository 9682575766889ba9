"""Old private memories of one subject become one that cites them: which are due, what stays found, and what forgetting does to it."""

import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from federation.services import consolidation, memories, memory_summaries
from federation.services.memory_summaries import FEWEST, MOST, Old, Subject
from federation.services.replay import replay
from federation.transaction import Transactions, connect, reading


def remember(transactions: Transactions, who: str, content: str, **more: Any) -> uuid.UUID:
    with transactions.begin(who) as session:
        return memories.remember(session, content, **more).memory_id


def age(database: str, days: int = 40) -> None:
    """Let what is there have been remembered so long ago."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE memories SET created_at = created_at - make_interval(days => %s), updated_by = 'test:hand'", [days])


def old(transactions: Transactions, database: str, number: int = FEWEST, *, who: str = "bob", about: str = "deploy") -> list[uuid.UUID]:
    made = [remember(transactions, who, f"Deploy {each} needed the VPN and {each} approvals.", about=[about]) for each in range(number)]
    age(database)
    return made


def due(transactions: Transactions, who: str = "bob") -> list[Subject]:
    with transactions.begin(who) as session:
        return memory_summaries.due(session)


def summed_up(transactions: Transactions, who: str = "bob") -> uuid.UUID:
    """Sum up the one subject that is due, with its first two sentences."""
    [subject] = due(transactions, who)
    text = memory_summaries.text_of(subject, [(number, subject.memories[number].content) for number in (0, 1)])
    assert text is not None
    with transactions.begin(who) as session:
        made = memory_summaries.record(session, subject, text)
    assert made is not None
    return made


def listed(transactions: Transactions, who: str = "bob", **more: Any) -> list[uuid.UUID]:
    with transactions.begin(who) as session:
        return [each.memory_id for each in memories.latest(session, limit=50, **more).memories]


def found(transactions: Transactions, query: str, who: str = "bob", **more: Any) -> list[memories.Recalled]:
    with transactions.begin(who) as session:
        return memories.show(session, memories.by_words(session, query, limit=50, **more))


def test_only_what_is_old_private_and_much_of_one_subject_is_due(transactions: Transactions, database: str) -> None:
    deploys = old(transactions, database)
    old(transactions, database, FEWEST - 1, about="lunch")
    for number in range(FEWEST):
        remember(transactions, "bob", f"for all {number}", about=["shared"], visibility="all")
    age(database)
    for number in range(FEWEST):
        remember(transactions, "bob", f"of today {number}", about=["today"])
    assert [(each.name, [one.id for one in each.memories]) for each in due(transactions)] == [("deploy", deploys)]
    assert due(transactions, "eve") == []


def test_a_memory_of_several_subjects_goes_with_that_of_most_and_no_summary_has_more_than_it_can_cite(
    transactions: Transactions, database: str
) -> None:
    for number in range(MOST + FEWEST):
        remember(transactions, "bob", f"number {number}", about=["much", "little"] if number < FEWEST else ["much"])
    age(database)
    assert [(each.name, len(each.memories)) for each in due(transactions)] == [("much", MOST), ("much", FEWEST)]


def test_nothing_is_due_where_the_setting_says_never(transactions: Transactions, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old(transactions, database)
    never = memory_summaries.settings().model_copy(update={"memory_summary_days": 0.0})
    monkeypatch.setattr(memory_summaries, "settings", lambda: never)
    assert due(transactions) == []


def test_summary_stands_in_the_list_for_what_it_cites_which_is_found_as_before(transactions: Transactions, database: str) -> None:
    originals = old(transactions, database)
    recent = remember(transactions, "bob", "The deploys are faster now", about=["deploy"])
    summary = summed_up(transactions)
    assert listed(transactions) == [summary, recent]
    assert listed(transactions, about=["deploy"]) == [summary, recent]
    assert listed(transactions, about=[str(summary)]) == originals[::-1]
    [shown] = [each for each in found(transactions, "approvals") if each.memory_id == summary]
    assert (list(shown.cites), shown.part_of, shown.visibility, shown.by) == (originals, None, "nobody", "bob")
    assert shown.content.splitlines()[0].startswith(f"From {FEWEST} memories about deploy, ")
    assert shown.content.splitlines()[1:] == ["- Deploy 0 needed the VPN and 0 approvals. [1]", "- Deploy 1 needed the VPN and 1 approvals. [2]"]
    # What the summary leaves out is found by its own words, before it.
    [detail] = found(transactions, "7")
    assert (detail.memory_id, detail.part_of, detail.cites) == (originals[7], summary, [])
    assert {each.memory_id for each in found(transactions, "approvals", about=[str(summary)])} == set(originals)
    # What comes after its summary is told by that.
    ids = [each.memory_id for each in found(transactions, "memories about deploy VPN")]
    assert ids.index(summary) == len(ids) - 1 or not set(ids[ids.index(summary) :]) & set(originals)
    assert due(transactions) == []


def test_it_is_nobody_elses(transactions: Transactions, database: str) -> None:
    old(transactions, database)
    summary = summed_up(transactions)
    assert listed(transactions, "eve") == []
    assert listed(transactions, "eve", about=[str(summary)]) == []
    [subject] = [Subject("deploy", [Old(each, "x", ["deploy"], datetime.now(UTC)) for each in listed(transactions, about=[str(summary)])])]
    with transactions.begin("eve") as session:
        assert memory_summaries.record(session, subject, "mine") is None


def test_what_is_forgotten_is_in_no_summary_and_the_others_are_summed_up_anew(transactions: Transactions, database: str, postgres: Any) -> None:
    originals = old(transactions, database, FEWEST + 1)
    summary = summed_up(transactions)
    with transactions.begin("bob") as session:
        memories.forget(session, originals[0])
    assert listed(transactions) == originals[:0:-1]
    assert "Deploy 0" not in " ".join(each.content for each in found(transactions, "deploy VPN"))
    again = summed_up(transactions)
    assert listed(transactions) == [again]
    with psycopg.connect(database) as connection:
        told = connection.execute("SELECT payload ->> 'memory_id' FROM events WHERE type = 'memory.forgotten' ORDER BY sequence").fetchall()
        assert {each for (each,) in told} == {str(summary), str(originals[0])}
        [(cited,)] = connection.execute(
            "SELECT payload -> 'of' FROM events WHERE type = 'memory.summarised' ORDER BY sequence DESC LIMIT 1"
        ).fetchall()
        assert cited == sorted(map(str, originals[1:]))
    engine = connect(postgres.as_role("federation_auditor", database))
    with reading(engine) as session:
        assert replay(session).differences == []
    engine.dispose()


def test_a_summary_that_its_author_forgets_does_not_come_back(transactions: Transactions, database: str) -> None:
    originals = old(transactions, database)
    summary = summed_up(transactions)
    with transactions.begin("bob") as session:
        memories.forget(session, summary)
    assert listed(transactions) == originals[::-1]
    assert [each.part_of for each in found(transactions, "VPN")] == [None] * FEWEST
    assert due(transactions) == []


def test_a_summary_that_is_old_itself_is_in_no_other(transactions: Transactions, database: str) -> None:
    old(transactions, database)
    first = summed_up(transactions)
    later = [remember(transactions, "bob", f"Deploy {each} took an hour.", about=["deploy"]) for each in range(FEWEST)]
    age(database)
    assert [[each.id for each in subject.memories] for subject in due(transactions)] == [later]
    second = summed_up(transactions)
    assert listed(transactions) == [second, first]


def test_neither_a_summary_nor_what_is_in_it_is_merged(transactions: Transactions, database: str) -> None:
    old(transactions, database)
    summed_up(transactions)
    recent = remember(transactions, "bob", "The deploys are faster now", about=["deploy"])
    with transactions.begin("bob") as session:
        assert [each.id for each in consolidation.own(session)] == [recent]


def test_sentences_that_do_not_fit_are_left_out(transactions: Transactions) -> None:
    subject = Subject("deploy", [Old(uuid.uuid4(), "x", ["deploy"], datetime(2030, 1, 31, tzinfo=UTC))] * FEWEST)
    text = memory_summaries.text_of(subject, [(0, "long " * 790), (1, "long " * 100), (2, "short")])
    assert text is not None
    assert len(text) <= memories.LONGEST
    assert text.endswith("- short [3]")
    assert memory_summaries.text_of(subject, [(0, "x" * memories.LONGEST)]) is None
