"""What agents decide and find out together, done for the tests of the store."""

from contextlib import suppress
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from federation.errors import Equivocation
from federation.security.signing import SigningKey
from federation.security.statements import KeyVoice
from federation.services import (
    agent_keys,
    assignments,
    consensus,
    decisions,
    escalations,
    findings,
    messages,
    phase_moves,
    resource_claims,
    session_actions,
    sessions,
    task_claims,
    task_ends,
    tasks,
    votes,
)
from federation.services.electorates import Asked
from federation.services.findings import Said
from federation.services.session_actions import Proposed
from federation.services.sessions import Start
from federation.store.models.consensus import Consensus
from federation.transaction import Transactions


def vote(transactions: Transactions) -> None:
    """Vote on the undecided gate with a signature, change what is voted on once, and contradict oneself."""
    own = SigningKey(Ed25519PrivateKey.generate())
    with transactions.begin("bob") as session:
        agent_keys.register(session, "bob", own.public)
    signing = KeyVoice(own, "bob")
    with transactions.begin("ada") as session:
        asked = Asked(question="Restart the cache?", voters=["ada", "bob", "dan"], task="undecided")
        vote = consensus.request(session, asked, slug="restart")
        assert consensus.replace(session, "restart", "Restart the cache now?", None).revision == 2
    for name, response in (("bob", "reject"), ("bob", "approve"), ("ada", "approve"), ("dan", "approve")):
        with suppress(Equivocation), transactions.begin(name, voice=signing if name == "bob" else None) as session:
            consensus.acknowledge(session, "restart", session.get_one(Consensus, vote.id).options_hash)
            votes.respond(session, "restart", [response], confidence=0.9, reason="because")
        with transactions.begin("service:door") as session:
            decisions.settle(session, vote.id)
    with transactions.begin("service:beat") as session:
        ended = decisions.settle(session, vote.id)
        assert (ended.state, (ended.outcome or {})["void"], ended.applied_at is None) == ("decided", ["bob"], False)
    with transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "bob")


def sign(transactions: Transactions) -> None:
    """Say, claim, give back and cancel with a signature."""
    own = SigningKey(Ed25519PrivateKey.generate())
    with transactions.begin("dan") as session:
        agent_keys.register(session, "dan", own.public)
    with transactions.begin("dan", voice=KeyVoice(own, "dan")) as session:
        messages.send(session, "Nothing leaks", to="ada", message_type="finding", body={"category": "conclusion", "confidence": 0.5})
        assert resource_claims.take(session, "file:docs/index.md", ttl_s=60).claimed
        assert resource_claims.give_back(session, "file:docs/index.md").released
        tasks.delegate(session, "Sweep", slug="signed")
        later = {"executor": "node", "start_at": datetime(2099, 1, 31, 18, tzinfo=timezone(timedelta(hours=1))), "timeout_s": 90.5}
        tasks.delegate(session, "Sweep", slug="signed-too", parameters={"share": 1e-7, "whole": 2.0, "of": [None, "ö"]}, **later)
        assert task_claims.claim(session, "signed", description="", ttl_s=60).claimed
        assert task_claims.release(session, "signed")
        assert task_ends.cancel(session, "signed-too").status == "cancelled"


def investigate(transactions: Transactions) -> None:
    """Look into something together: a hypothesis that another confirms, an action that the voters let through, an outcome."""
    evidence = [{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}]
    with transactions.begin("ada") as session:
        start = Start(context={"task": "find the leak"}, voters=["ada", "bob", "dan"], expertise={"bob": 2, "dan:conclusion": 1.5})
        sessions.join(session, "INC-1", start, focus="errors")
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-1", Start(context={"severity": "high"}))
        said = Said(content="The cache leaks", category="hypothesis", confidence=0.7, evidence=evidence)
        hypothesis = findings.post(session, "INC-1", said).finding.id
    with transactions.begin("dan") as session:
        sessions.join(session, "INC-1", Start(), focus="memory")
        sessions.join(session, "INC-1", Start(), focus="memory of the cache")
        said = Said(content="It does", category="conclusion", confidence=1, evidence=evidence, hypothesis_id=hypothesis, validates=True)
        assert [one.agent for one in findings.post(session, "INC-1", said).duplicates] == ["bob"]
    own = SigningKey(Ed25519PrivateKey.generate())
    with transactions.begin("bob") as session:
        agent_keys.register(session, "bob", own.public)
    with transactions.begin("bob", voice=KeyVoice(own, "bob")) as session:
        task = session_actions.propose(
            session, "INC-1", Proposed(content="Restart it", type="modify", target="cache", early=True), slug="restart-cache"
        )
        vote = session_actions.vote_on(session, task)
        assert vote is not None
    for name in ("ada", "dan"):
        with transactions.begin(name) as session:
            session_actions.vote(session, "INC-1", "restart-cache", "yes", options_hash=vote.options_hash)
        with transactions.begin("service:door") as session:
            decisions.settle(session, vote.id)
    with transactions.begin("dan") as session:
        [todo] = session_actions.claimable(session, "INC-1")
        token = task_claims.claim(session, str(todo.id), description="", ttl_s=60).fencing_token
    with transactions.begin("dan") as session:
        task_claims.complete(session, "restart-cache", fencing_token=token or 0, result={"restarted": True})
    with transactions.begin("ada") as session:
        findings.post(session, "INC-1", Said(content="The cache leaked", category="conclusion", confidence=0.9), completes=True)


def divide(transactions: Transactions) -> None:
    """Designate, divide a task, let one part expire and another wait in vain, hand that one on, and begin a round of phases."""
    where = {"conversation_id": "release-1"}
    own = SigningKey(Ed25519PrivateKey.generate())
    with transactions.begin("ada") as session:
        agent_keys.register(session, "ada", own.public)
    with transactions.begin("ada", voice=KeyVoice(own, "ada")) as session:
        tasks.delegate(session, "Ship it", slug="ship", capability="ship", timeout_s=3600, **where)
        assignments.assign(session, "bob", "developer", "Build it", slug="build", parent="ship", **where)
        tasks.delegate(session, "Test it", slug="test", parent="ship", timeout_s=60, **where)
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE agent_tasks SET expires_at = clock_timestamp() WHERE slug = 'test'"))
        session.execute(text("UPDATE agent_tasks SET waiting_since = waiting_since - interval '1 day' WHERE slug = 'build'"))
    with transactions.begin("service:beat") as session:
        assert [task_ends.expire(session, each) for each in task_ends.overdue(session)] == [True]
        after = timedelta(hours=1)
        assert [escalations.escalate(session, each, after=after) for each in escalations.due(session, after=after)] == [True]
    with transactions.begin("ada", voice=KeyVoice(own, "ada")) as session:
        assert assignments.assign(session, "dan", "developer", "build", **where).handed_to == "dan"
        assert phase_moves.move(session, "release-1", "propose", reason="a plan first").number == 1
