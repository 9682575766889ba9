"""Claims on resources: one holder of what overlaps, and tokens that only grow."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from federation.charter import charter_text
from federation.errors import InvalidInput, OverQuota, Refused
from federation.services import agents, claims, limits, resource_claims
from federation.services.claims import ClaimOutcome
from federation.services.resource_claims import GivenBack
from federation.services.resources import Resource, parsed
from federation.settings import Settings
from federation.store import outbox
from federation.store.models.events import Event
from federation.transaction import Transactions, connect
from tests.integration.services.claiming import MAIN, give_back, lapse, take

RACERS = 32
NAMES = ["file:a", "file:a/b", "file:a/b/c", "file:a-b", "file:ab/c", "file:a/**", "file:a/b/**", "file:ab/**", "file:**", "deploy:a", "deploy:a/**"]


def test_what_overlaps_is_held_by_one(transactions: Transactions) -> None:
    assert take(transactions, "bob", "file:src/**", description="refactoring").fencing_token == 1
    lost = take(transactions, "dan", MAIN)
    assert (lost.claimed, lost.holder, lost.held, lost.doing, lost.fencing_token, lost.place) == (
        False,
        "bob",
        "file:src/**",
        "refactoring",
        None,
        None,
    )
    assert not take(transactions, "dan", "file:**").claimed
    assert take(transactions, "dan", "file:srcs/main.py").claimed
    assert take(transactions, "dan", "deploy:src/main.py").claimed


def test_tokens_grow_along_each_path_over_release_expiry_and_takeover(transactions: Transactions) -> None:
    told = [take(transactions, "bob", MAIN).fencing_token]
    give_back(transactions, "bob", MAIN)
    told.append(take(transactions, "dan", "file:src/**").fencing_token)
    lapse(transactions, "file:src/**")
    told.append(take(transactions, "bob", "file:**").fencing_token)
    give_back(transactions, "bob", "file:**")
    told.append(take(transactions, "dan", MAIN).fencing_token)
    assert told == [1, 2, 3, 4]
    # Of what never overlapped it knows nothing.
    assert take(transactions, "bob", "deploy:production").fencing_token == 1


def test_what_has_lapsed_ends_with_the_takeover_and_an_event_says_whose_it_was(transactions: Transactions) -> None:
    for resource in (MAIN, "file:src/util.py"):
        take(transactions, "bob", resource)
        lapse(transactions, resource)
    assert take(transactions, "dan", "file:src/**").claimed
    with transactions.begin("test:hand") as session:
        told = session.scalars(select(Event.payload).where(Event.type == "claim.lapsed", Event.actor == "dan")).all()
        ended = session.execute(text("SELECT resource FROM claims WHERE released_at IS NOT NULL ORDER BY 1")).scalars().all()
    assert sorted(each["resource"] for each in told) == [MAIN, "file:src/util.py"] == ended
    assert {(each["holder"], each["fencing_token"], each["version"]) for each in told} == {("bob", 1, 1)}


def test_holder_may_hold_a_folder_and_a_file_in_it_and_either_covers_the_file(transactions: Transactions) -> None:
    folder, file = take(transactions, "bob", "file:src/**"), take(transactions, "bob", MAIN)
    for token in (folder.fencing_token, file.fencing_token):
        with transactions.begin("bob") as session:
            resource_claims.check(session, MAIN, token or 0)
    with pytest.raises(Refused, match="out of date"), transactions.begin("bob") as session:
        resource_claims.check(session, "file:src/other.py", file.fencing_token or 0)
    with pytest.raises(Refused, match=r"token 1 is that of your claim on file:src/\*\*, which covers file:src/other\.py; extend that one"):
        take(transactions, "bob", "file:src/other.py", token=folder.fencing_token)
    give_back(transactions, "bob", "file:src/**")
    assert not take(transactions, "dan", MAIN).claimed
    assert take(transactions, "dan", "file:src/other.py").claimed


def test_extending_by_token_keeps_it_and_wins_nothing_anew(transactions: Transactions) -> None:
    first = take(transactions, "bob", MAIN, ttl_s=10)
    again = take(transactions, "bob", MAIN, token=first.fencing_token)
    assert (again.fencing_token, first.expires_at is not None and again.expires_at is not None) == (1, True)
    assert again.expires_at > first.expires_at
    with pytest.raises(Refused, match=r"Claim before you code: token 7 of file:src/main\.py is out of date"):
        take(transactions, "bob", MAIN, token=7)
    lapse(transactions, MAIN)
    with pytest.raises(Refused, match=r"your claim on .* lapsed"):
        take(transactions, "bob", MAIN, token=1)
    assert take(transactions, "dan", "file:src/**").claimed
    with pytest.raises(Refused, match=r"dan holds file:src/main\.py \(as file:src/\*\*\) until"):
        take(transactions, "bob", MAIN, token=1)


def test_only_its_holder_gives_it_back_and_postgresql_holds_to_that(transactions: Transactions) -> None:
    take(transactions, "bob", MAIN)
    assert give_back(transactions, "dan", MAIN) == GivenBack(released=False, left_line=False)
    # As a statement that somebody forgot a condition in.
    for forgotten in ("UPDATE claims SET released_at = clock_timestamp()", "UPDATE claims SET expires_at = clock_timestamp(), updated_by = 'dan'"):
        with transactions.begin("dan") as session:
            assert session.execute(text(forgotten)).rowcount == 0  # type: ignore[attr-defined]
    with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("dan") as session:
        session.execute(
            text("INSERT INTO claims (resource, holder, fencing_token, description, expires_at) VALUES ('file:x', 'bob', 1, '', clock_timestamp())")
        )
    assert not take(transactions, "dan", MAIN).claimed
    assert give_back(transactions, "bob", MAIN).released
    assert give_back(transactions, "bob", MAIN) == GivenBack(released=False, left_line=False)


def test_operator_ends_a_claim_and_its_token_is_worth_nothing(transactions: Transactions) -> None:
    token = take(transactions, "bob", MAIN).fencing_token
    with transactions.begin("cli:root") as session:
        assert resource_claims.revoke(session, MAIN)
        assert not resource_claims.revoke(session, MAIN)
    with pytest.raises(Refused, match="nobody holds"), transactions.begin("bob") as session:
        resource_claims.check(session, MAIN, token or 0)


def test_whom_the_charter_does_not_let_is_refused_with_the_principle(transactions: Transactions) -> None:
    with transactions.begin("test:setup") as session:
        agents.add(session, "zoe", "observer")
    says = r"^Claim before you code: zoe, of the role observer, may not take tasks"
    with pytest.raises(Refused, match=says) as raised, transactions.begin("zoe") as session:
        resource_claims.take(session, MAIN, description="", ttl_s=60)
    assert "claim files and other resources" in raised.value.remedy


def test_one_agent_holds_so_many(transactions: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: Settings(claims_per_agent=2))
    for number in range(2):
        take(transactions, "bob", f"file:{number}")
    assert take(transactions, "bob", "file:0").claimed
    with pytest.raises(OverQuota, match=r"bob may hold 2 claims, .*federation_release.*FEDERATION_CLAIMS_PER_AGENT"):
        take(transactions, "bob", "file:2")
    assert take(transactions, "dan", "file:2").fencing_token == 1
    give_back(transactions, "bob", "file:0")
    assert take(transactions, "bob", "file:3").claimed


def test_bad_values_are_named(transactions: Transactions) -> None:
    for given, says in (
        ({"resource": "main.py"}, "resource: got 'main.py'"),
        ({"resource": "task:1"}, "federation_claim_task"),
        ({"ttl_s": 0.5}, "ttl_s: got 0.5"),
        ({"description": "x" * 1001}, "description: got '1001 characters'"),
    ):
        with pytest.raises(InvalidInput, match=says):
            take(transactions, "bob", **{"resource": MAIN} | given)


def test_list_pages_and_finds_what_is_in_the_way(transactions: Transactions, chartered: Any) -> None:
    chartered(charter_text().replace("required = []", 'required = ["file:src/**"]'))
    for resource in ("file:b", "file:a", "file:a-b", "file:a/c"):
        take(transactions, "bob", resource, description="tidying")
    take(transactions, "dan", "deploy:production")
    take(transactions, "eve", "file:**", present_s=30)
    seen: list[str] = []
    after = None
    while True:
        with transactions.begin("dan") as session:
            page = resource_claims.listed(session, after=after, limit=2)
        seen += [one.resource for one in page.claims]
        if (after := page.more) is None:
            break
    assert seen == ["deploy:production", "file:a", "file:a-b", "file:a/c", "file:b"]
    with transactions.begin("dan") as session:
        near = resource_claims.listed(session, overlapping="file:a/**")
        mine = resource_claims.listed(session, mine=True)
    assert [(one.resource, one.holder, one.description, one.fencing_token, one.waiting) for one in near.claims] == [
        (name, "bob", "tidying", None, ["eve"]) for name in ("file:a", "file:a/c")
    ]
    assert [(one.resource, one.fencing_token) for one in mine.claims] == [("deploy:production", 1)]
    assert (near.you, near.must_claim) == ("dan", ("file:src/**",))


def test_what_overlaps_is_the_same_to_the_database(transactions: Transactions) -> None:
    with transactions.begin("test:hand") as session:
        for one in NAMES:
            found = session.execute(
                text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE federation_overlap(:one, name)"), {"names": NAMES, "one": one}
            )
            assert set(found.scalars()) == {other for other in NAMES if parsed(one).overlaps(parsed(other))}, one


def test_a_second_delivery_is_told_the_claim_as_its_own_only_while_it_is(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})

    def deliver() -> ClaimOutcome:
        with transactions.begin("bob", execution_id=execution_id) as session:
            return resource_claims.take(session, MAIN, ttl_s=60)

    assert deliver().fencing_token == 1
    assert (deliver().fencing_token, deliver().again) == (1, True)
    lapse(transactions, MAIN)
    assert deliver().claimed is False
    take(transactions, "dan", MAIN)
    assert (deliver().claimed, deliver().holder) == (False, "dan")


# Races.


@pytest.fixture
def wide(transactions: Transactions) -> Iterator[Transactions]:
    """A connection for each racer."""
    urls = [engine.url.render_as_string(hide_password=False).replace("+psycopg", "") for engine in (transactions.engine, transactions.service)]
    app, service = connect(urls[0], most=RACERS), connect(urls[1], most=RACERS)
    yield Transactions(app, transactions._publisher, service=service)
    app.dispose()
    service.dispose()


def race(wide: Transactions, rounds: int) -> None:
    """Let all racers begin each round at once; half of them want a file, the others a folder that it lies in."""
    start = threading.Barrier(RACERS)

    def run(number: int) -> list[ClaimOutcome]:
        told = []
        for turn in range(rounds):
            resource = Resource(f"race:{turn}/" + ("src/main.py", "src/**", "**", "src/main.py")[number % 4])
            start.wait(120)
            with wide.begin(f"racer:{number}") as session:
                told.append(claims.claim(session, resource, description="", ttl_s=600))
        return told

    with ThreadPoolExecutor(RACERS) as pool:
        told = list(pool.map(run, range(RACERS)))
    for turn in range(rounds):
        outcomes = [mine[turn] for mine in told]
        winners = [outcome for outcome in outcomes if outcome.claimed]
        assert len(winners) == 1, (turn, winners)
        assert {outcome.holder for outcome in outcomes} == {winners[0].holder}
        assert {outcome.fencing_token for outcome in outcomes} == {1, None}


def test_of_32_racers_for_what_overlaps_one_wins(wide: Transactions) -> None:
    race(wide, 10)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_of_32_racers_one_wins_a_thousand_times(wide: Transactions) -> None:
    race(wide, 1000)
