"""What happened, and who works with whom: told from the events and rows that the asker sees, and from no others."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from federation.errors import InvalidInput
from federation.services import consensus, episodes, memories, messages, relations, resource_claims, sessions, task_claims, task_ends, tasks, votes
from federation.services.electorates import Asked
from federation.services.episodes import Episode, Past
from federation.services.relations import Relation
from federation.services.sessions import Start
from federation.transaction import Transactions

ROOM = {"conversation_id": "secret"}


def recalled(transactions: Transactions, who: str, *about: str, **more: Any) -> Past:
    with transactions.begin(who) as session:
        return episodes.recall(session, about=about, **{"limit": 50, **more})


def told(transactions: Transactions, who: str, *about: str, **more: Any) -> list[tuple[str, str]]:
    """Return who did what, the earliest first."""
    return [(each.actor, each.what) for each in reversed(recalled(transactions, who, *about, **more).episodes)]


def of(transactions: Transactions, who: str, *agents: str, **more: Any) -> set[tuple[str, str, str, int]]:
    with transactions.begin(who) as session:
        return {(each.other, each.by, each.on, each.count) for each in relations.of(session, agents, **more)}


@pytest.fixture
def worked(transactions: Transactions) -> Transactions:
    """Ada and bob have worked in a conversation of theirs, bob and dan on a file; eve has seen nothing of the first."""
    with transactions.begin("ada") as session:
        asked = messages.send(session, "Who takes the parser?", **ROOM)
        messages.send(session, "You do", to="bob", **ROOM)
        tasks.delegate(session, "Write the parser", slug="parser", executor="agent", **ROOM)
        vote = consensus.request(session, Asked(question="Ship it?", voters=["ada", "bob"], **ROOM), slug="ship")
        consensus.acknowledge(session, "ship", vote.options_hash)
        sessions.join(session, "INC-1", Start(context={"task": "find the leak"}), **ROOM)
    with transactions.begin("bob") as session:
        messages.send(session, "I do", reply_to=asked.message_id)
        token = task_claims.claim(session, "parser", description="on it", ttl_s=60).fencing_token
        consensus.acknowledge(session, "ship", vote.options_hash)
        votes.respond(session, "ship", ["yes"], reason="it is good")
        sessions.join(session, "INC-1", Start())
    with transactions.begin("bob") as session:
        task_claims.complete(session, "parser", fencing_token=token or 0, result={"lines": 9})
        assert resource_claims.take(session, "file:src/main.py", ttl_s=60, description="to add the parser").claimed
        assert resource_claims.take(session, "file:src/main.py", ttl_s=90).claimed
        assert resource_claims.give_back(session, "file:src/main.py").released
        memories.remember(session, "the parser is mine")
    with transactions.begin("dan") as session:
        assert resource_claims.take(session, "file:src/main.py", ttl_s=60).claimed
    return transactions


def test_what_one_did_is_told_in_order_and_in_words(worked: Transactions) -> None:
    assert told(worked, "bob") == [
        ("bob", "said I do"),
        ("bob", "took «Write the parser»"),
        ("bob", "acknowledged «Ship it?»"),
        ("bob", "voted on «Ship it?»: yes"),
        ("bob", "joined in looking into"),
        ("bob", "completed «Write the parser»"),
        ("bob", "claimed file:src/main.py: to add the parser"),
        ("bob", "gave back file:src/main.py"),
        ("bob", "remembered something"),
    ]


def task_of(transactions: Transactions) -> str:
    with transactions.begin("bob") as session:
        return str(tasks.find(session, "parser").id)


def test_what_happened_to_a_thing_is_told_to_all_who_see_it_and_nothing_to_others(worked: Transactions) -> None:
    file = [
        ("bob", "claimed file:src/main.py: to add the parser"),
        ("bob", "gave back file:src/main.py"),
        ("dan", "claimed file:src/main.py"),
    ]
    for who in ("ada", "bob", "dan", "eve"):
        assert told(worked, who, "file:src/main.py") == told(worked, who, "file:src/**") == file
    for subject in ("parser", "secret", "conversation:secret", "ship", "INC-1", f"task:{task_of(worked)}"):
        assert told(worked, "eve", subject) == [], subject
        assert told(worked, "ada", subject) != [], subject
    assert told(worked, "ada", "parser")[0] == ("ada", "handed out «Write the parser»")
    # Of a vote that has not ended nobody is told what another voted.
    assert ("bob", "voted on «Ship it?»: yes") not in told(worked, "ada", "ship")
    assert ("bob", "voted on «Ship it?»: yes") in told(worked, "bob", "ship")


def test_of_an_agent_is_told_what_the_asker_sees(worked: Transactions) -> None:
    assert told(worked, "eve", "bob") == [("bob", "claimed file:src/main.py: to add the parser"), ("bob", "gave back file:src/main.py")]
    assert ("ada", "said to bob: You do") in told(worked, "ada", "bob")
    assert not [what for _, what in told(worked, "ada", "bob") if "remembered" in what]
    # Both.
    assert {what for _, what in told(worked, "ada", "bob", "parser")} >= {"completed «Write the parser»"}
    assert told(worked, "ada", "bob", "nothing-is-called-so") == []


def test_what_is_said_to_another_or_to_another_role_is_nobody_elses(worked: Transactions) -> None:
    with worked.begin("ada") as session:
        messages.send(session, "hello eve", to="eve", **ROOM)
        messages.send(session, "leads only", to="role:lead", **ROOM)
    for who, said in (("bob", []), ("eve", ["said to eve: hello eve"]), ("ada", ["said to eve: hello eve", "said to role:lead: leads only"])):
        assert [what for _, what in told(worked, who, "secret") if "hello" in what or "leads" in what] == said


def test_the_past_is_read_page_by_page_and_since_a_moment(worked: Transactions, database: str) -> None:
    everything = recalled(worked, "bob").episodes
    read: list[Episode] = []
    before: datetime | None = None
    while True:
        page = recalled(worked, "bob", before=before, limit=3)
        read += page.episodes
        if (before := page.before) is None:
            break
    assert read == list(everything)
    middle = everything[4].at
    assert recalled(worked, "bob", since=middle).episodes == everything[:5]
    with psycopg.connect(database) as connection:
        # All of one moment are on one page, however small.
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE events SET created_at = date_trunc('minute', created_at) - interval '40 days'")
    assert told(worked, "bob") == []
    assert len(recalled(worked, "bob", since=middle - timedelta(days=41)).episodes) == len(everything)
    with pytest.raises(InvalidInput, match="limit"):
        recalled(worked, "bob", limit=0)


def test_long_words_are_cut_and_those_of_a_private_state_are_its_own(worked: Transactions) -> None:
    with worked.begin("bob") as session:
        messages.send(session, "x" * 1000 + "\nend", **ROOM)
    [(_, what)] = told(worked, "ada", "secret", limit=1)
    assert (len(what), what[-2:]) == (len("said ") + 302, " …")


def test_who_worked_with_whom_is_counted_as_far_as_the_asker_sees(worked: Transactions) -> None:
    together = {("messages", "secret", 1), ("answers", "secret", 1), ("tasks", "secret", 1), ("votes", "secret", 1), ("sessions", "secret", 1)}
    assert of(worked, "ada") == {("bob", *each) for each in together}
    assert of(worked, "ada", "bob") == {("ada", *each) for each in together} | {("dan", "claims", "file:src/main.py", 1)}
    assert of(worked, "eve") == set()
    assert of(worked, "eve", "ada") == set()
    assert of(worked, "eve", "bob") == {("dan", "claims", "file:src/main.py", 1)}
    assert of(worked, "dan") == {("bob", "claims", "file:src/main.py", 1)}
    with worked.begin("ada") as session:
        latest: list[Relation] = relations.of(session, limit=2)
        assert len(latest) == 2
        assert latest[0].last_at >= latest[1].last_at
        assert relations.of(session, since=latest[0].last_at + timedelta(seconds=1)) == []


def test_a_task_that_was_cancelled_by_another_is_told_with_his_name(worked: Transactions) -> None:
    with worked.begin("ada") as session:
        tasks.delegate(session, "Sweep", slug="sweep", **ROOM)
        task_ends.cancel(session, "sweep")
    assert told(worked, "bob", "sweep") == [("ada", "handed out «Sweep»"), ("ada", "cancelled «Sweep»")]
