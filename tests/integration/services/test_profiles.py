"""An agent's record: what of its work came out well or badly, as far as the asker sees it, and what weight that makes."""

import pytest

from federation.consensus.proposal import LARGEST_WEIGHT
from federation.errors import NotFound
from federation.services import consensus, decisions, findings, profiles, sessions, task_claims, tasks, votes
from federation.services.electorates import Asked
from federation.services.findings import Said
from federation.services.profiles import Profile
from federation.services.sessions import Start
from federation.store.models.consensus import Consensus
from federation.transaction import Transactions

LOGS = [{"source": "logs", "query": "grep", "result": "it"}]
ROOM = {"conversation_id": "secret"}


def profile(transactions: Transactions, who: str, of: str) -> Profile:
    with transactions.begin(who) as session:
        [found] = profiles.of(session, [of])
    return found


def records(transactions: Transactions, who: str, of: str) -> dict[str, tuple[int, int]]:
    return {each.of: (each.well, each.badly) for each in profile(transactions, who, of).record}


def done(transactions: Transactions, who: str, slug: str, *, failed: bool = False) -> None:
    with transactions.begin(who) as session:
        token = task_claims.claim(session, slug, description="", ttl_s=60).fencing_token
        task_claims.complete(session, slug, fencing_token=token or 0, result={}, success=not failed)


@pytest.mark.usefixtures("_secret")
def test_a_record_is_of_what_came_out_and_grows_with_it(transactions: Transactions) -> None:
    assert records(transactions, "bob", "eve") == {"overall": (0, 0)}
    assert profile(transactions, "bob", "eve").record[-1].weight == 1
    with transactions.begin("bob") as session:
        for slug, kind in (("one", "analyze"), ("two", "analyze"), ("three", "report"), ("four", "report")):
            tasks.delegate(session, "Do it", slug=slug, task_type=kind, **ROOM)
    done(transactions, "eve", "one")
    done(transactions, "eve", "two", failed=True)
    done(transactions, "eve", "three")
    assert records(transactions, "bob", "eve") == {"analyze": (1, 1), "report": (1, 0), "overall": (2, 1)}
    weights = {each.of: each.weight for each in profile(transactions, "bob", "eve").record}
    assert weights == {"analyze": 1.0, "report": 1.333, "overall": 1.2}
    # Of a conversation that he is not in, a stranger is told nothing.
    assert records(transactions, "dan", "eve") == {"overall": (0, 0)}
    assert records(transactions, "cli:root", "eve") == {"analyze": (1, 1), "report": (1, 0), "overall": (2, 1)}


@pytest.mark.usefixtures("_secret")
def test_hypotheses_count_when_another_confirms_or_refutes_them(transactions: Transactions) -> None:
    guesses = []
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-1", Start(context={"task": "find it"}), **ROOM)
        for number in range(3):
            said = Said(content=f"It is number {number}", category="hypothesis", confidence=0.5)
            guesses.append(findings.post(session, "INC-1", said).finding.id)
    with transactions.begin("eve") as session:
        sessions.join(session, "INC-1", Start())
        for guess, right in zip(guesses[:2], (True, False), strict=True):
            said = Said(content=f"So it is {right}", category="conclusion", confidence=0.9, evidence=LOGS, hypothesis_id=guess, validates=right)
            findings.post(session, "INC-1", said)
    assert records(transactions, "eve", "bob") == {"hypothesis": (1, 1), "overall": (1, 1)}


def test_a_vote_on_a_task_counts_once_the_task_has_come_out(transactions: Transactions) -> None:
    with transactions.begin("dan") as session:
        tasks.delegate(session, "Restart it", slug="restart", requires_approval=True)
    with transactions.begin("ada") as session:
        vote = consensus.request(session, Asked(question="Restart?", voters=["ada", "bob", "dan"], task="restart"), slug="vote")
    for name, response in (("ada", "approve"), ("bob", "approve"), ("dan", "reject")):
        with transactions.begin(name) as session:
            consensus.acknowledge(session, "vote", session.get_one(Consensus, vote.id).options_hash)
            votes.respond(session, "vote", [response], reason="so")
    with transactions.begin("service:beat") as session:
        assert decisions.settle(session, vote.id).state == "decided"
    assert records(transactions, "eve", "bob") == {"overall": (0, 0)}
    assert [(each.voted, each.agreed) for each in (profile(transactions, "eve", name) for name in ("bob", "dan"))] == [(1, 1), (1, 0)]
    done(transactions, "eve", "restart")
    assert records(transactions, "eve", "bob") == {"decision": (1, 0), "overall": (1, 0)}
    assert records(transactions, "eve", "dan") == {"decision": (0, 1), "overall": (0, 1)}


def test_any_weight_is_one_that_a_vote_takes(transactions: Transactions) -> None:
    for well, badly in ((0, 0), (10_000, 0), (0, 10_000), (3, 4)):
        assert 1 <= round(profiles.weight(well, badly) * 1000) <= min(2000, LARGEST_WEIGHT)
    weights = {name: profile(transactions, "ada", name).record[-1].weight for name in ("ada", "bob")}
    with transactions.begin("ada") as session:
        assert consensus.request(session, Asked(question="Ship it?", voters=["ada", "bob"], weights=weights)).state == "open"
    with pytest.raises(NotFound, match="nearest: bob"):
        profile(transactions, "ada", "bobb")
