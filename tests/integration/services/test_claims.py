"""Claims on resources: one holder of what overlaps, tokens that only grow, a fair line, and no write by who has lost his claim."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from federation.charter import charter_text
from federation.errors import InvalidInput, OverQuota, Refused
from federation.services import agents, claim_lines, claims, limits, resource_claims
from federation.services.claims import ClaimOutcome
from federation.services.resource_claims import GivenBack
from federation.services.resources import Resource, parsed
from federation.settings import Settings
from federation.store.context import context
from federation.store.models.claims import Waiter
from federation.store.models.events import Event
from federation.transaction import Transactions, connect
from tests.integration.services import claim_holder
from tests.integration.world import until

MAIN = "file:src/main.py"
RACERS = 32
NAMES = ["file:a", "file:a/b", "file:a/b/c", "file:a-b", "file:ab/c", "file:a/**", "file:a/b/**", "file:ab/**", "file:**", "deploy:a", "deploy:a/**"]


def take(transactions: Transactions, name: str, resource: str, *, ttl_s: float = 60, **more: Any) -> ClaimOutcome:
    with transactions.begin(name) as session:
        return resource_claims.take(session, resource, ttl_s=ttl_s, **more)


def give_back(transactions: Transactions, name: str, resource: str) -> GivenBack:
    with transactions.begin(name) as session:
        return resource_claims.give_back(session, resource)


def lapse(transactions: Transactions, resource: str) -> None:
    """Let a claim run out now."""
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claims SET expires_at = clock_timestamp() WHERE resource = :resource"), {"resource": resource})


def go_away(transactions: Transactions, holder: str) -> None:
    """Let the presence of one who waits run out now."""
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claim_waiters SET present_until = clock_timestamp() WHERE holder = :holder"), {"holder": holder})


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
    assert {(each["holder"], each["fencing_token"], each["version"]) for each in told} == {("bob", 1, claims.PAYLOAD_VERSION)}


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
    for ask in (resource_claims.take, resource_claims.request):
        with pytest.raises(Refused, match=r"^Claim before you code: zoe, of the role observer, may not take tasks") as raised:  # noqa: SIM117
            with transactions.begin("zoe") as session:
                ask(session, MAIN, description="", ttl_s=60)
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


# The line.


def test_line_is_kept_in_order_of_arrival_whatever_overlaps(transactions: Transactions) -> None:
    take(transactions, "bob", MAIN)
    assert take(transactions, "dan", "file:src/**", present_s=30).place == 1
    assert take(transactions, "eve", MAIN, present_s=30).place == 2
    # Free, but before its turn: a folder would never be free, because files come and go.
    assert (early := take(transactions, "ada", "file:src/util.py")).claimed is False
    assert (early.holder, early.place) == (None, None)
    assert give_back(transactions, "bob", MAIN).released
    assert take(transactions, "eve", MAIN, present_s=30).place == 2
    assert take(transactions, "dan", "file:src/**", present_s=30).claimed
    assert give_back(transactions, "dan", "file:src/**").released
    assert take(transactions, "eve", MAIN, present_s=30).claimed
    with transactions.begin("test:hand") as session:
        assert session.scalars(select(Waiter)).all() == []


def test_who_holds_what_another_waits_for_is_not_held_back_by_that(transactions: Transactions) -> None:
    take(transactions, "bob", MAIN)
    take(transactions, "dan", "file:**", present_s=30)
    assert take(transactions, "bob", "file:src/util.py").claimed


def test_one_that_died_in_line_is_passed_and_stands_where_it_stood_when_it_comes_back(transactions: Transactions) -> None:
    take(transactions, "bob", MAIN)
    for name, place in (("dan", 1), ("eve", 2), ("ada", 3)):
        assert take(transactions, name, MAIN, present_s=30).place == place
    go_away(transactions, "dan")
    give_back(transactions, "bob", MAIN)
    assert take(transactions, "eve", MAIN, present_s=30).claimed
    assert take(transactions, "ada", MAIN, present_s=30).place == 1
    assert take(transactions, "dan", MAIN, present_s=30).place == 1
    assert take(transactions, "ada", MAIN, present_s=30).place == 2


def test_a_place_is_kept_for_an_hour(transactions: Transactions) -> None:
    take(transactions, "bob", MAIN)
    for name in ("dan", "eve"):
        take(transactions, name, MAIN, present_s=30)
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claim_waiters SET present_until = present_until - interval '2 hours' WHERE holder = 'dan'"))
    with transactions.begin("service:beat") as session:
        assert claim_lines.forget_absent(session) == 1
        assert list(session.scalars(select(Waiter.holder))) == ["eve"]


def woken(transactions: Transactions, name: str, resource: str) -> set[str]:
    """Give back, and return whose turn it may be by the notices that go out."""
    with transactions.begin(name) as session:
        resource_claims.give_back(session, resource)
        return {notice.removeprefix("line:") for notice in context(session).notices if notice.startswith("line:")}


def test_a_release_wakes_those_whose_turn_it_is_and_nobody_else(transactions: Transactions) -> None:
    take(transactions, "bob", "file:src/**")
    for name, resource in (("dan", "file:src/a"), ("eve", "file:src/b"), ("ada", "file:src/a")):
        take(transactions, name, resource, present_s=30)
    assert woken(transactions, "bob", "file:src/**") == {"dan", "eve"}
    # Who leaves the line lets the next one know.
    assert woken(transactions, "dan", "file:src/a") == {"ada"}
    assert woken(transactions, "bob", "file:src/**") == set()


def test_a_second_delivery_is_told_the_claim_as_its_own_only_while_it_is(transactions: Transactions) -> None:
    execution_id = uuid.uuid4()

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
    app, service = connect(urls[0], pool_size=RACERS), connect(urls[1], pool_size=RACERS)
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


# Holders that stand still.


class Holder:
    """A process of bob's that claims and writes as it is told."""

    def __init__(self, *urls: str) -> None:
        command = [sys.executable, "-m", "tests.integration.services.claim_holder", "bob", *urls]
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(command, cwd=root, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def holder_of(transactions: Transactions) -> Iterator[Holder]:
    urls = [engine.url.render_as_string(hide_password=False).replace("+psycopg", "") for engine in (transactions.engine, transactions.service)]
    made = Holder(*urls)
    try:
        yield made
    finally:
        made.end()


def written(transactions: Transactions, resource: str) -> list[tuple[str, int]]:
    """Return who wrote there, with which tokens, in order."""
    with transactions.begin("test:hand") as session:
        query = select(Event.actor, Event.payload["fencing_token"].as_integer()).where(Event.stream == f"written:{resource}").order_by(Event.position)
        return [(row[0], row[1]) for row in session.execute(query)]


def freeze(transactions: Transactions, times: int) -> None:
    """Stop the holder past its time again and again; what it writes when it goes on is refused, for the file and for the folder in which it lies."""
    with holder_of(transactions) as holder:
        for number in range(times):
            file = f"file:{number}/src/main.py"
            holder.tell("claim", file, 1)
            old = int(holder.answer())
            holder.tell("write", file, old)
            assert holder.answer() == "written"
            holder.stop()
            # It has this to do when it goes on, as a program has that was about to write.
            holder.tell("write", file, old)
            other = file if number % 2 else f"file:{number}/**"
            new = until(
                lambda other=other: (won := take(transactions, "dan", other)).claimed and won, "the claim of the one that stands still lapses"
            )
            with transactions.begin("dan") as session:
                claim_holder.write(session, file, new.fencing_token)
            holder.go_on()
            assert holder.answer().startswith("Refused: Claim before you code: dan holds")
            assert written(transactions, file) == [("bob", old), ("dan", new.fencing_token)]
            assert new.fencing_token > old


def test_stale_writes_of_a_holder_that_stood_still_are_fenced(transactions: Transactions) -> None:
    freeze(transactions, 10)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_stale_writes_of_a_holder_that_stood_still_are_fenced(transactions: Transactions) -> None:
    freeze(transactions, 100)


def test_who_stands_still_in_the_midst_of_a_write_holds_nobody_up_and_writes_nothing(transactions: Transactions) -> None:
    with holder_of(transactions) as holder:
        holder.tell("claim", MAIN, 1)
        old = int(holder.answer())
        holder.tell("stop", MAIN, old)
        assert holder.answer() == "stopped"
        new = until(lambda: (won := take(transactions, "dan", "file:src/**")).claimed and won, "the claim of the one that stands still lapses")
        with transactions.begin("dan") as session:
            claim_holder.write(session, MAIN, new.fencing_token)
        holder.go_on()
        assert holder.answer().startswith("DatabaseUnavailable: ")
    assert written(transactions, MAIN) == [("dan", new.fencing_token)]
