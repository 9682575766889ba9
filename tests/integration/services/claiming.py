"""What tests of claims do again and again: take one, give it back, and turn its clock."""

from typing import Any

from sqlalchemy import text

from federation.services import resource_claims
from federation.services.claims import ClaimOutcome
from federation.services.resource_claims import GivenBack
from federation.transaction import Transactions

MAIN = "file:src/main.py"


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
