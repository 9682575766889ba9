"""What everybody was doing at a moment, who could help whom, and what has changed since a look: each as far as who asks may see it."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.placement.node import Gpu
from federation.services import cop, cop_pages, matches, nodes
from federation.services.cop import PulseRow
from federation.services.cop_pages import Page
from federation.services.nodes import Announcement
from federation.transaction import Transactions

STALE = {"node_stale_s": 6.0, "agent_stale_s": 600.0}


def says(transactions: Transactions, who: str, summary: str, **more: object) -> datetime:
    with transactions.begin(who) as session:
        return cop.update_state(session, summary, **more)  # type: ignore[arg-type]


def at(transactions: Transactions, moment: datetime, *, who: str = "bob") -> dict[str, PulseRow]:
    with transactions.begin(who) as session:
        return {row.name: row for row in cop.pulse_at(session, moment, agent_stale_s=600)}


def suggested(transactions: Transactions, *, who: str = "bob", of: str | None = None) -> list[tuple[str, str, list[str]]]:
    with transactions.begin(who) as session:
        found = matches.found(session, cop.pulse(session, **STALE), of=None if of is None else [of])
    return [(match.who, match.could_ask, list(match.shared)) for match in found]


def test_what_everybody_was_doing_at_a_moment(transactions: Transactions) -> None:
    first = says(transactions, "ada", "Reading the logs", action="EXECUTING", thinking="the pool?")
    second = says(transactions, "ada", "Waiting for bob", action="WAITING")
    then, later = at(transactions, first), at(transactions, second)
    assert (then["ada"].summary, then["ada"].status, then["ada"].thinking, then["ada"].age_s) == ("Reading the logs", "EXECUTING", "the pool?", 0)
    assert (later["ada"].summary, later["ada"].status, later["ada"].thinking) == ("Waiting for bob", "WAITING", None)
    assert (then["eve"].summary, then["eve"].status) == ("", "IDLE")
    assert at(transactions, first - timedelta(days=1)) == {}, "nobody was there"
    assert at(transactions, second + timedelta(minutes=11))["ada"].stale


def test_the_past_is_seen_by_those_to_whom_it_was_shown(transactions: Transactions) -> None:
    shown = says(transactions, "bob", "for all")
    hidden = says(transactions, "bob", "for developers", visibility="role")
    assert {name: at(transactions, shown, who=name)["bob"].summary for name in ("ada", "dan")} == {"ada": "for all", "dan": "for all"}
    assert {name: at(transactions, hidden, who=name)["bob"].summary for name in ("ada", "dan")} == {"ada": "for all", "dan": "for developers"}
    with transactions.begin("ada") as session:
        # As a query that somebody forgot a condition in.
        assert session.scalars(text("SELECT summary FROM cop_history WHERE subject = 'bob'")).all() == ["for all"]


def test_nodes_come_and_go_in_the_past_too(transactions: Transactions) -> None:
    node = Announcement("aorus", "developer", (), (), (), (Gpu(kind="RTX", vram_gib=24),), (), 2, "h", 1, uuid.uuid4(), simulated=False)

    def now() -> datetime:
        with transactions.begin("service:test") as session:
            return session.execute(text("SELECT clock_timestamp()")).scalar_one()

    before = now()
    with transactions.begin("node:aorus") as session:
        nodes.announce(session, node)
        cop.record_heartbeat(session, "aorus")
    there = now()
    with transactions.begin("node:aorus") as session:
        nodes.leave(session, "aorus", node.incarnation)
    gone = now()
    assert "aorus" not in at(transactions, before)
    assert (at(transactions, there)["aorus"].stale, at(transactions, there)["aorus"].summary) == (False, "0 running, 0 queued")
    assert (at(transactions, gone)["aorus"].stale, at(transactions, gone)["aorus"].summary) == (True, "left")
    with transactions.begin("bob") as session:
        [row] = [row for row in cop.pulse(session, **STALE) if row.name == "aorus"]
    assert row.node is not None
    assert (row.node.queue, row.stale) == (0, True)


def test_what_one_wonders_and_another_offers_is_suggested_with_the_words_that_both_use(transactions: Transactions) -> None:
    says(transactions, "ada", "Refactoring auth", wondering="Should we support refresh tokens?", offering="Can help with crypto reviews when done")
    says(transactions, "eve", "Idle", offering="I know how tokens are refreshed", wondering="Who could review my cryptography?")
    says(transactions, "dan", "Idle", offering="Happy to help anyone with anything")
    assert suggested(transactions) == [("ada", "eve", ["refresh", "token"]), ("eve", "ada", ["review"])]
    assert suggested(transactions, of="dan") == []
    says(transactions, "dan", "Idle", able=["refresh_tokens"])
    assert ("ada", "dan", ["refresh", "token"]) in suggested(transactions, of="dan")


def test_nothing_is_suggested_to_who_may_not_see_it(transactions: Transactions) -> None:
    says(transactions, "ada", "Refactoring", wondering="refresh tokens?")
    says(transactions, "bob", "Idle", offering="token refreshing", visibility="nobody")
    assert suggested(transactions, who="dan") == []
    assert suggested(transactions, who="ada") == []
    assert suggested(transactions, who="bob") == [("ada", "bob", ["refresh", "token"])]


def test_what_one_can_do_is_seen_by_all_whatever_the_visibility_and_nothing_else_is(transactions: Transactions) -> None:
    says(transactions, "bob", "Reading the vault", thinking="x", offering="keys", visibility="nobody", able=["open_vaults"])
    with transactions.begin("dan") as session:
        [row] = [row for row in cop.pulse(session, **STALE) if row.name == "bob"]
    assert (row.summary, row.thinking, row.offering, row.status, row.capabilities) == ("", None, None, "IDLE", ["open_vaults"])


def test_nobody_matches_himself(transactions: Transactions) -> None:
    says(transactions, "ada", "Refactoring", wondering="refresh tokens?", offering="refresh tokens")
    assert suggested(transactions) == []


def page(transactions: Transactions, after: str | None = None, *, who: str = "bob", limit: int = 100) -> Page:
    with transactions.begin(who) as session:
        return cop_pages.page(session, after, limit=limit, **STALE)


def changed(transactions: Transactions, since: str | None, *, who: str = "bob") -> list[str]:
    return [row.name for row in page(transactions, since, who=who).rows]


def announce(transactions: Transactions, name: str) -> Announcement:
    node = Announcement(name, "developer", (), (), (), (), (), 2, "h", 1, uuid.uuid4(), simulated=False)
    with transactions.begin(f"node:{name}") as session:
        nodes.announce(session, node)
        cop.record_heartbeat(session, name)
    return node


def test_what_is_committed_after_a_look_has_changed_whenever_it_was_written(transactions: Transactions) -> None:
    says(transactions, "ada", "first")
    quiet = page(transactions).cursor
    assert changed(transactions, quiet) == []
    with transactions.begin("ada") as session:
        cop.update_state(session, "written before the look")
        during = page(transactions).cursor
        assert changed(transactions, during) == []
    assert changed(transactions, during) == ["ada"]
    assert changed(transactions, quiet) == ["ada"]
    seen = page(transactions).cursor
    says(transactions, "ada", "a secret", visibility="nobody")
    assert changed(transactions, seen) == [], "what one may not see has not changed"
    assert changed(transactions, seen, who="ada") == ["ada"]


def test_who_goes_on_from_a_cursor_is_told_what_changed_and_nothing_else(transactions: Transactions) -> None:
    announce(transactions, "aorus")
    first = page(transactions)
    assert [row.name for row in first.rows] == ["aorus", "ada", "bob", "dan", "eve"]
    says(transactions, "eve", "Reading", able=["analyze_logs"])
    says(transactions, "ada", "Writing")
    then = page(transactions, first.cursor)
    assert [(row.name, row.summary, row.capabilities) for row in then.rows] == [("ada", "Writing", []), ("eve", "Reading", ["analyze_logs"])]
    assert page(transactions, then.cursor).rows == []


def test_a_heartbeat_is_no_change_unless_the_node_begins_or_ceases_to_work(transactions: Transactions) -> None:
    announce(transactions, "aorus")
    since = page(transactions).cursor
    with transactions.begin("node:aorus") as session:
        cop.record_heartbeat(session, "aorus")
    assert changed(transactions, since) == []


def test_a_node_that_goes_falls_silent_or_comes_back_has_changed(transactions: Transactions) -> None:
    baby, aorus = announce(transactions, "baby"), announce(transactions, "aorus")

    def told(work: Callable[[Session], object]) -> list[str]:
        since = page(transactions).cursor
        with transactions.begin("service:beat") as session:
            work(session)
        return changed(transactions, since)

    assert told(lambda session: nodes.leave(session, "baby", baby.incarnation)) == ["baby"]
    assert told(lambda session: nodes.record_lost(session, stale_s=0)) == ["aorus"]
    assert told(lambda session: nodes.sign_of_life(session, "aorus", aorus.incarnation, load={})) == ["aorus"]
    assert told(lambda session: nodes.sign_of_life(session, "aorus", aorus.incarnation, load={})) == []
    assert told(lambda session: nodes.announce(session, baby)) == ["baby"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_the_picture_comes_in_pages_and_what_changes_meanwhile_comes_after_the_last(transactions: Transactions, limit: int) -> None:
    announce(transactions, "baby")
    announce(transactions, "aorus")
    whole = ["aorus", "baby", "ada", "bob", "dan", "eve"]

    def pages(after: str | None, *, meanwhile: str | None = None) -> tuple[list[str], str | None]:
        names, one = [], page(transactions, after, limit=limit)
        if meanwhile is not None:
            says(transactions, "ada", meanwhile)
        while one.more:
            assert len(one.rows) == limit
            names += [row.name for row in one.rows]
            one = page(transactions, one.cursor, limit=limit)
        return names + [row.name for row in one.rows], one.cursor

    names, cursor = pages(None, meanwhile="said while it was read")
    assert names == whole
    names, cursor = pages(cursor)
    assert names == ["ada"], "whatever page it stood on"
    for who in ("ada", "bob", "eve"):
        says(transactions, who, "more")
    names, cursor = pages(cursor)
    assert names == ["ada", "bob", "eve"]
    assert pages(cursor)[0] == []


def test_the_past_comes_in_pages_too(transactions: Transactions) -> None:
    announce(transactions, "aorus")
    moment = says(transactions, "dan", "Here")
    says(transactions, "dan", "Gone")
    read, after = [], None
    with transactions.begin("bob") as session:
        while True:
            one = cop_pages.page_at(session, moment, after, limit=2, agent_stale_s=600)
            read += [(row.name, row.summary) for row in one.rows]
            if not one.more:
                break
            after = one.cursor
        assert read == [("aorus", "0 running, 0 queued"), ("ada", ""), ("bob", ""), ("dan", "Here"), ("eve", "")]
        assert one.cursor is None
        with pytest.raises(InvalidInput, match="this one is of the past"):
            cop_pages.page(session, after, limit=2, **STALE)
        with pytest.raises(InvalidInput, match="this one is of now"):
            cop_pages.page_at(session, moment, cop_pages.page(session, limit=2, **STALE).cursor, limit=2, agent_stale_s=600)


@pytest.mark.parametrize(
    "since",
    [
        "",
        "~",
        "1",
        "1:2",
        "x:y:z",
        "5:1:",
        "1:2:3;drop",
        "99999999999999999999:1:",
        "1:2:~",
        "1:2:~agent:ada",
        "1:2:~~dog:ada",
        "1:2:~5:1:~node:x",
        "0:2:",
        "3:6:5,4",
        "3:6:2",
        "3:6:6",
    ],
)
def test_what_is_no_cursor_is_refused(transactions: Transactions, since: str) -> None:
    with pytest.raises(InvalidInput, match="after"):
        page(transactions, since)


def test_the_table_has_a_line_for_each_and_no_line_of_anybodys_making(transactions: Transactions) -> None:
    says(transactions, "ada", "x | y\n| mallory | EXECUTING |", thinking="\x1b[2JOAuth2 vs JWT", offering="Crypto review", able=["analyze_logs"])
    with transactions.begin("bob") as session:
        lines = cop.table(cop.pulse(session, **STALE)).splitlines()
    assert lines[:2] == ["| Agent | Status | Doing | Thinking | Wondering | Offering | Age |", "| --- | --- | --- | --- | --- | --- | --- |"]
    assert len(lines) == 2 + 4
    [ada] = [line for line in lines if line.startswith("| ada |")]
    assert ada.startswith("| ada | EXECUTING | x \\| y \\| mallory \\| EXECUTING \\| | \\x1b[2JOAuth2 vs JWT | — | Crypto review; analyze_logs |")


def test_capabilities_stay_until_they_are_told_anew(transactions: Transactions) -> None:
    says(transactions, "ada", "Here", able=["query_metrics", "analyze_logs"])
    says(transactions, "ada", "Still here")

    def known() -> dict[str, list[str]]:
        with transactions.begin("bob") as session:
            return {row.name: list(row.capabilities) for row in cop.pulse(session, **STALE) if row.capabilities}

    assert known() == {"ada": ["analyze_logs", "query_metrics"]}
    says(transactions, "ada", "Leaving", able=[])
    assert known() == {}
    with pytest.raises(InvalidInput, match="capabilities: got 'analyze logs'"):
        says(transactions, "ada", "x", able=["analyze logs"])
