"""A team whose keys are known."""

from collections.abc import Iterator

import pytest

from federation.services import agent_keys, signers, statements
from federation.transaction import Transactions
from tests.integration.services.stating import DOOR, Team, made


@pytest.fixture
def team(transactions: Transactions, database: str) -> Iterator[Team]:
    """Ada, who decides, bob, who asks, and the door, each with a key that is known; afterwards each statement that was recorded holds."""
    found = Team(transactions, database, made(), made(), made())
    for name in ("ada", "bob"):
        with transactions.begin(name) as session:
            agent_keys.register(session, name, getattr(found, name).public)
    with transactions.begin(DOOR) as session:
        signers.register(session, DOOR, found.door.public)
    yield found
    with transactions.begin("test:hand") as session:
        assert list(statements.unsound(session)) == []
