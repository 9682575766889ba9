"""Four agents who vote, and the door that says so for them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.security.signing import SigningKey
from federation.security.statements import KeyVoice, Voice
from federation.services import (
    agent_keys,
    consensus,
    consensus_results,
    decisions,
    signers,
    statements,
    tasks,
    votes,
)
from federation.services.consensus_results import Results
from federation.services.electorates import Asked
from federation.store.models.consensus import Consensus
from federation.transaction import Transactions

DOOR, BEAT = "service:door", "service:beat"
ALL = ("ada", "bob", "dan", "eve")
AUTH = {"question": "Which auth approach?", "options": ["OAuth2", "JWT", "Custom"], "mechanism": "poll", "voters": ["ada", "bob", "dan"]}


@dataclass(frozen=True)
class Team:
    """The agents' keys and that of the door, and what they do with them."""

    transactions: Transactions
    url: str
    keys: Mapping[str, SigningKey]

    def signs(self, name: str) -> KeyVoice:
        return KeyVoice(self.keys[name], DOOR if name == "door" else name)

    def ask(self, *, who: str = "ada", slug: str | None = "auth-decision", voice: Voice | None = None, **asked: Any) -> Consensus:
        with self.transactions.begin(who, voice=voice or self.signs("door")) as session:
            return consensus.request(session, Asked(**AUTH | asked), slug=slug)

    def acknowledge(self, who: str, vote: Consensus) -> consensus.Acknowledged:
        with self.transactions.begin(who) as session:
            return consensus.acknowledge(session, str(vote.id), vote.options_hash)

    def respond(self, who: str, vote: Consensus, *response: str, voice: Voice | None = None, **more: Any) -> votes.Cast:
        with self.transactions.begin(who, voice=voice or self.signs("door")) as session:
            return votes.respond(session, str(vote.id), response, **more)

    def vote(self, who: str, vote: Consensus, *response: str, settle: bool = True, **more: Any) -> Consensus:
        """Acknowledge and vote as over a front door."""
        self.acknowledge(who, vote)
        self.respond(who, vote, *response, **more)
        return self.settle(vote) if settle else vote

    def settle(self, vote: Consensus, by: str = DOOR) -> Consensus:
        with self.transactions.begin(by) as session:
            return decisions.settle(session, vote.id)

    def results(self, who: str, vote: Consensus) -> Results:
        with self.transactions.begin(who) as session:
            return consensus_results.results(session, consensus.find(session, str(vote.id)), with_ballots=True)

    def end_of_time(self, vote: Consensus) -> None:
        """Let the deadline have passed."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SELECT set_config('federation.actor', 'test:hand', false)")
            connection.execute("SET session_replication_role = replica")
            connection.execute("UPDATE consensus SET deadline = clock_timestamp() WHERE id = %s", [vote.id])

    def told(self, vote: Consensus, like: str = "consensus.%") -> list[str]:
        query = "SELECT type FROM events WHERE stream LIKE %s AND type LIKE %s ORDER BY sequence"
        return [row[0] for row in self.rows(query, f"consensus:{vote.id}%", like)]

    def rows(self, query: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, values).fetchall()

    def gate(self, slug: str = "gate", *, who: str = "bob", **more: Any) -> str:
        with self.transactions.begin(who) as session:
            tasks.delegate(session, "Restart the cache", slug=slug, requires_approval=True, **more)
        return slug

    def status(self, slug: str) -> str:
        return str(self.rows("SELECT status FROM agent_tasks WHERE slug = %s", slug)[0][0])


@pytest.fixture
def team(transactions: Transactions, database: str) -> Iterator[Team]:
    """Four agents and the door, each with a key that is known; afterwards each statement that was recorded holds."""
    keys = {name: SigningKey(Ed25519PrivateKey.generate()) for name in (*ALL, "door")}
    for name in ALL:
        with transactions.begin(name) as session:
            agent_keys.register(session, name, keys[name].public)
    with transactions.begin(DOOR) as session:
        signers.register(session, DOOR, keys["door"].public)
    yield Team(transactions, database, keys)
    with transactions.begin("test:hand") as session:
        assert list(statements.unsound(session)) == []
