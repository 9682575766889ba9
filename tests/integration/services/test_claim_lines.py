"""The line for what is claimed: kept in order of arrival, whoever dies in it, and woken by who gives back."""

from sqlalchemy import select, text

from federation.services import claim_lines, resource_claims
from federation.store.context import context
from federation.store.models.claims import Waiter
from federation.transaction import Transactions
from tests.integration.services.claiming import MAIN, give_back, go_away, take


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
