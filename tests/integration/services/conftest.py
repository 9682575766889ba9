"""A team whose keys are known, and work that is handed out in a conversation of ada, a lead, with bob and dan, developers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from federation.services import agent_keys, conversations, delegation, messages, signers, statements
from federation.store.models.tasks import AgentTask
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


@pytest.fixture
def hand_out(transactions: Transactions) -> Callable[..., AgentTask]:
    """Hands out something as ada, in a conversation of hers with bob and dan."""
    with transactions.begin("ada") as session:
        conversations.open_for(session, "release", ["bob", "dan"])

    def hand_out(slug: str = "t", *, who: str = "ada", **terms: Any) -> AgentTask:
        with transactions.begin(who) as session:
            return delegation.hand_out(session, f"Do {slug}", slug=slug, **{"conversation_id": "release", **terms})

    return hand_out


@pytest.fixture
def _secret(transactions: Transactions) -> None:
    """A conversation of bob and eve."""
    with transactions.begin("bob") as session:
        messages.send(session, "hello", conversation_id="secret", to="eve")
