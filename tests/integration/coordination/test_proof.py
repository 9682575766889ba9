"""What counts as lost, doubled, held by two or out of order after a long run is found, and what is in order is not taken for it."""

from typing import Any

import psycopg
import pytest

from benchmarks.coordination.mixture import Mixture
from benchmarks.coordination.proof import flaws
from federation.services import consensus, decisions, messages, resource_claims, task_claims, tasks, votes
from federation.services.electorates import Asked
from federation.transaction import Transactions

DAMAGE = {
    "DELETE FROM messages WHERE position = 2": "conversation direct:ada:bob has 2 messages up to 3",
    "DELETE FROM message_receipts WHERE agent = 'bob' AND position = 1": "the inbox of bob has",
    "UPDATE message_receipts SET position = position + 100 WHERE agent = 'bob'": "the inbox of bob has",
    "DELETE FROM events WHERE stream = 'claim:deploy:production' AND position = 1": "stream claim:deploy:production has",
    "DELETE FROM events WHERE type = 'claim.released' AND stream LIKE 'claim:deploy%'": "claim:deploy:production was won twice: dan",
    "UPDATE events SET payload = payload || '{\"fencing_token\": 1}' WHERE type = 'claim.acquired' AND stream ~ 'deploy'": "was won twice: dan",
    "UPDATE agent_tasks SET status = 'pending'": "is pending",
    "UPDATE consensus SET state = 'open'": "is open with 2 ballots",
    "DELETE FROM ballots WHERE actor = 'ada'": "is decided with 1 ballots",
}


@pytest.fixture
def worked(database: str, transactions: Transactions) -> str:
    """The URL of a database in which a little of everything was done."""
    for number in range(3):
        with transactions.begin("ada") as session:
            messages.send(session, f"word {number}", to="bob")
    for who in ("bob", "dan"):
        with transactions.begin(who) as session:
            resource_claims.take(session, "deploy:production", description="", ttl_s=60)
        with transactions.begin(who) as session:
            resource_claims.give_back(session, "deploy:production")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Profile it.", agent="bob", slug="t")
    with transactions.begin("bob") as session:
        token = task_claims.claim(session, "t", description="", ttl_s=60).fencing_token
    with transactions.begin("bob") as session:
        task_claims.complete(session, "t", fencing_token=token or 0, result={})
    with transactions.begin("ada") as session:
        vote = consensus.request(session, Asked(question="Which?", voters=["ada", "bob"]), slug="v")
    for who in ("ada", "bob"):
        with transactions.begin(who) as session:
            consensus.acknowledge(session, "v", vote.options_hash)
        with transactions.begin(who) as session:
            votes.respond(session, "v", ["yes"])
    with transactions.begin("service:door") as session:
        decisions.settle(session, vote.id)
    return database


def told(url: str, damage: str | None = None) -> list[str]:
    with psycopg.connect(url) as connection:
        if damage is not None:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(damage).rowcount > 0  # type: ignore[arg-type]
        found = flaws(connection)
        connection.rollback()
        return found


def test_each_damage_is_found_and_work_in_order_is_none(worked: str) -> None:
    assert told(worked) == []
    for damage, says in DAMAGE.items():
        assert any(says in flaw for flaw in told(worked, damage)), (damage, told(worked, damage))


class Liar:
    """A seat whose door gives two agents the same claim, and tells of a message twice."""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return {"federation_claim": {"claimed": True, "fencing_token": 1}, "federation_release": {"released": True}}[tool]


@pytest.mark.anyio
async def test_two_holders_a_lost_message_and_one_that_came_twice_are_told() -> None:
    mixture = Mixture({"ada": Liar(), "bob": Liar()}, {"ada": "lead", "bob": "developer"})  # type: ignore[dict-item]
    mixture._holders["bench:1"] = "bob"
    await mixture._claim("ada", "bench:1")
    mixture._expected["bob", "lost"] = mixture._expected["bob", "twice"] = 1
    mixture._received["bob", "twice"] = 2
    assert mixture.flaws() == ["bob never received lost", "bob received twice 2 times", "ada and bob hold bench:1 at once"]
