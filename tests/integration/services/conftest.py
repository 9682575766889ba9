"""Work that is handed out in a conversation of ada, a lead, with bob and dan, developers."""

from collections.abc import Callable
from typing import Any

import pytest

from federation.services import conversations, delegation
from federation.store.models.tasks import AgentTask
from federation.transaction import Transactions


@pytest.fixture
def hand_out(transactions: Transactions) -> Callable[..., AgentTask]:
    """Hands out something as ada, in a conversation of hers with bob and dan."""
    with transactions.begin("ada") as session:
        conversations.open_for(session, "release", ["bob", "dan"])

    def hand_out(slug: str = "t", *, who: str = "ada", **terms: Any) -> AgentTask:
        with transactions.begin(who) as session:
            return delegation.hand_out(session, f"Do {slug}", slug=slug, **{"conversation_id": "release", **terms})

    return hand_out
