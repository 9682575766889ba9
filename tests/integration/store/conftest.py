"""The main job without workers: each verb once, in the name of who does it in a running federation."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from federation.errors import Conflict, Equivocation
from federation.placement.node import Gpu
from federation.security.signing import SigningKey
from federation.security.statements import KeyVoice
from federation.services import (
    agent_keys,
    agents,
    approvals,
    artifacts,
    assignments,
    claim_lines,
    consensus,
    cop,
    decisions,
    escalations,
    executions,
    feeds,
    findings,
    inboxes,
    indexing,
    inference,
    memories,
    messages,
    nodes,
    phase_moves,
    quarantine,
    requests,
    resource_claims,
    retrieval,
    session_actions,
    sessions,
    signers,
    summaries,
    task_claims,
    task_ends,
    tasks,
    votes,
)
from federation.services.approvals import Decision
from federation.services.artifacts import Offered
from federation.services.electorates import Asked
from federation.services.findings import Said
from federation.services.indexing import NewDocument
from federation.services.nodes import Announcement
from federation.services.session_actions import Proposed
from federation.services.sessions import Start
from federation.store import outbox
from federation.store.contents import Stored
from federation.store.models.consensus import Consensus
from federation.transaction import Transactions
from federation.vectors import chunking

ROOT = "/srv/code"
NODE = "node:aorus"


def do_all(transactions: Transactions) -> None:
    """Do all of it; rows are left in each table that has a verb."""
    for part in (
        _live,
        _talk,
        _share,
        _work_as_agents,
        _claim_files,
        _work_on_a_node,
        _index,
        _remember,
        _give_up,
        _vote,
        _sign,
        _investigate,
        _divide,
    ):
        part(transactions)


@pytest.fixture
def main_job(transactions: Transactions) -> Callable[[], None]:
    """Does all of it on this test's own database."""
    return lambda: do_all(transactions)


@pytest.fixture(scope="session", name="do_all")
def _do_all() -> Callable[[Transactions], None]:
    """All of it, for a database that tests get when it is done."""
    return do_all


def _deliver(transactions: Transactions, execution_id: uuid.UUID, *, redelivered: bool = False) -> None:
    with transactions.begin(NODE) as session:
        executions.record_delivery(
            session, execution_id, task_id=str(execution_id), task_name="some.task", worker="aorus@host", pid=1, redelivered=redelivered
        )


def _live(transactions: Transactions) -> None:
    aorus = Announcement(
        "aorus", "developer", ("frag",), ("minilm",), (), (Gpu(kind="RTX", vram_gib=24),), (), 2, "aorus@host", 1, uuid.uuid4(), simulated=False
    )
    with transactions.begin(NODE) as session:
        assert nodes.announce(session, aorus)
        cop.record_heartbeat(session, "aorus")
    for _ in range(2):
        with transactions.begin(NODE) as session:
            assert nodes.sign_of_life(session, "aorus", aorus.incarnation, load={"running": 1})
            cop.record_heartbeat(session, "aorus")
    with transactions.begin("service:beat") as session:
        assert nodes.record_lost(session, stale_s=0) == ["aorus"]
    with transactions.begin(NODE) as session:
        assert nodes.sign_of_life(session, "aorus", aorus.incarnation, load={})
    with transactions.begin("ada") as session:
        cop.update_state(session, "Refactoring the auth module")
    with transactions.begin("eve") as session:
        cop.update_state(session, "Reading", able=["count_words", "fly"])
        cop.update_state(session, "Reading", able=["analyze_logs"])
    with transactions.begin("cli:root") as session:
        feeds.begin(session, None)
        feeds.begin(session, "dan", expires_s=60)
        feeds.begin(session, "bob")
        feeds.end(session, "dan")
    with transactions.begin("service:feeder") as session:
        [_, bob] = feeds.everybody(session)
        feeds.advance(session, bob, [feeds.Copy(1, {})])
    with transactions.begin("cli:root") as session:
        agents.rotate(session, "dan")
    with transactions.begin(NODE) as session:
        assert nodes.leave(session, "aorus", aorus.incarnation)
        assert nodes.announce(session, aorus)


def _talk(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "Look at the auth module, all of you", conversation_id="project-123", to="bob")
        messages.send(session, "noon", conversation_id="project-123")
        messages.send(session, "one o'clock at the latest", conversation_id="project-123")
    with transactions.begin("bob") as session:
        inboxes.inbox(session, after=inboxes.inbox(session).cursor)
    with transactions.begin("ada") as session:
        asked = messages.send(session, None, message_type="request", body={"to": "any", "capability": "count_words", "parameters": {"of": "a.py"}})
        messages.send(session, "Developers only", to="role:developer", message_type="finding", body={"category": "observation", "confidence": 1})
    with transactions.begin("dan") as session:
        cop.update_state(session, "Counting", able=["count_words"])
    with transactions.begin("dan") as session:
        messages.send(session, "seven", reply_to=asked.message_id)
    with transactions.begin("ada") as session:
        assert requests.answer(session, asked.message_id)
    with transactions.begin("service:beat") as session:
        [due] = summaries.request_due(session, window=2)
    _deliver(transactions, due)
    window: dict[str, Any] = {"conversation_id": "project-123", "from_position": 1, "to_position": 2, "text": "noon", "message_ids": []}
    with transactions.begin("service:beat", execution_id=due) as session:
        assert summaries.record(session, {**window, "method": "extractive", "model": "m", "model_digest": "d"})


def _work_as_agents(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Profile the memory", slug="memory-profile", conversation_id="project-123")
    with transactions.begin("bob") as session:
        asked = task_claims.request_claim(session, "memory-profile", description="", ttl_s=60)
    _deliver(transactions, asked)
    with transactions.begin("bob", execution_id=asked) as session:
        assert task_claims.claim(session, "memory-profile", description="", ttl_s=60).claimed
    with transactions.begin("bob") as session:
        assert task_claims.release(session, "memory-profile")
        token = task_claims.claim(session, "memory-profile", description="", ttl_s=60).fencing_token
    with transactions.begin("bob") as session:
        task_claims.complete(session, "memory-profile", fencing_token=token or 0, result={"leaks": 0})


def _share(transactions: Transactions) -> None:
    """Share two versions of a plan and a report of a task, each as it is recorded when its file is there."""
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "Report", slug="report")
    plan = Offered(conversation_id="commons", name="plan.md", kind="design")
    report = Offered(conversation_id="commons", name="Bericht (ö).pdf", kind="review", media_type="application/x-own", task=str(task.id))
    for offered, digest in ((plan, "1" * 64), (plan, "2" * 64), (report, "3" * 64)):
        with transactions.begin("bob") as session:
            artifacts.record(session, offered, Stored(digest, 10))


def _claim_files(transactions: Transactions) -> None:
    """Claim, wait, extend, take over what has lapsed, give back, and give up waiting."""

    def take(name: str, resource: str, **more: Any) -> Any:
        with transactions.begin(name) as session:
            return resource_claims.take(session, resource, ttl_s=60, **more)

    token = take("bob", "file:src/main.py").fencing_token
    assert take("bob", "file:src/main.py", token=token).claimed
    assert take("dan", "file:src/**", present_s=30).place == 1
    assert take("eve", "file:src/main.py", present_s=30).place == 2
    with transactions.begin("eve") as session:
        assert resource_claims.give_back(session, "file:src/main.py").left_line
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claims SET expires_at = clock_timestamp() WHERE resource = 'file:src/main.py'"))
    assert take("dan", "file:src/**").claimed
    for name in ("ada", "eve"):
        assert not take(name, "file:src/util.py", present_s=0).claimed
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claim_waiters SET present_until = present_until - interval '1 day' WHERE holder = 'eve'"))
    with transactions.begin("service:beat") as session:
        assert claim_lines.forget_absent(session) == 1
    assert take("ada", "deploy:production").claimed
    with transactions.begin("ada") as session:
        assert resource_claims.give_back(session, "deploy:production").released


def _work_on_a_node(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        task_id = tasks.delegate(session, "Name one thing", executor="node", requirements={"role": "developer"}).id
        [execution_id] = [row.id for row in session.execute(text("SELECT id FROM executions WHERE agent_task_id = :id"), {"id": task_id})]
    for reason in ("no live node has it", "no live node has it, still"):
        with transactions.begin("service:outbox") as session:
            outbox.record_unsent(session, {execution_id: reason}, tries=1)
    _deliver(transactions, execution_id)
    run = {"engine": "llamacpp", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
    with transactions.begin("ada", execution_id=execution_id) as session:
        assert task_ends.start_on_node(session, task_id, "aorus") is not None
    answer = {"completion": "A race.", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 3, "seconds": 0.1}
    with transactions.begin("ada", execution_id=execution_id) as session:
        assert inference.record_run(session, {**run, **answer})
    with transactions.begin("ada", execution_id=execution_id) as session:
        assert task_ends.end_on_node(session, task_id, result={"text": "A race."})
    with transactions.begin("test:hand") as session:
        stored = "INSERT INTO celery_results (task_id, state, date_done, expires_at) VALUES (:id, 'SUCCESS', now(), now())"
        session.execute(text(stored), {"id": str(execution_id)})
    with transactions.begin("service:beat") as session:
        executions.keep_outcomes(session)


def _index(transactions: Transactions) -> None:
    """Index two files, then one of them changed and the other gone, whose vectors stay staged; and a folder for nobody, which is for all then."""

    def document(path: str, *texts: str) -> NewDocument:
        return NewDocument(path, f"{path} {texts}", 10, [chunking.Chunk(path, "function", each, 1, 2, each, f"{path} {each}") for each in texts])

    def embedded(documents: list[NewDocument], root: str = ROOT, visibility: str | None = None) -> uuid.UUID:
        with transactions.begin("ada") as session:
            run_id = retrieval.request_index(session, root, visibility=visibility)
        with transactions.begin("ada", execution_id=run_id) as session:
            paths = [each.path for each in documents]
            indexing.record_scan(session, run_id, root, paths=paths, documents=documents, skipped=[], visibility=visibility)
            batches = [execution_id for execution_id in indexing.executions_of(session, run_id) if execution_id != outbox.fixed_id("write", run_id)]
        for execution_id in batches:
            with transactions.begin("ada", execution_id=execution_id) as session:
                vectors = {chunk.id: b"\0" * 4 for chunk in indexing.batch(session, execution_id)}
                indexing.record_vectors(session, execution_id, node="aorus", model="m", vectors=vectors)
        return run_id

    first = embedded([document("a.py", "one", "two"), document("b.py", "three")])
    with transactions.begin("ada") as session:
        staged, gone = indexing.staged(session, first)
        assert indexing.record_written(session, first, [*(chunk.id for chunk, _ in staged), *gone]).finished
    embedded([document("a.py", "one", "new")])
    for visibility in ("nobody", "all"):
        embedded([document("plan.md", "four")], "/srv/plans", visibility)


def _remember(transactions: Transactions) -> None:
    """Remember for oneself and for all, and forget one of two that are embedded."""
    with transactions.begin("ada") as session:
        kept = memories.remember(session, "Deploys need the VPN", about=["deploy"])
        gone = memories.remember(session, "The VPN is down", visibility="all")
    for each in (kept, gone):
        with transactions.begin("ada") as session:
            assert memories.record_vector(session, each.memory_id, node="aorus", model="m")
    with transactions.begin("ada") as session:
        memories.forget(session, gone.memory_id)


def _give_up(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        poison = outbox.record(session, "some.task", {})
    _deliver(transactions, poison, redelivered=True)
    with transactions.begin(NODE) as session:
        quarantine.put_aside(session, "too often", queue="aorus", worker="aorus@host", headers={}, body=b"[]", execution_id=poison)
        foreign = quarantine.put_aside(session, "no message of Celery", queue="aorus", worker="aorus@host", headers={}, body=b"hello")
    with transactions.begin("cli:root") as session:
        quarantine.dismiss(session, foreign, reason="a test of ours")
    with pytest.raises(Conflict, match="its failure is not stored yet"), transactions.begin("cli:root") as session:
        quarantine.redrive(session, poison)
    with transactions.begin(NODE) as session:
        failed = "INSERT INTO celery_results (task_id, state, date_done, expires_at) VALUES (:id, 'FAILURE', now(), now() + interval '1 day')"
        session.execute(text(failed), {"id": str(poison)})
    with transactions.begin("cli:root") as session:
        quarantine.redrive(session, poison)
    with transactions.begin(NODE) as session:
        key = SigningKey(Ed25519PrivateKey.generate()).public
        assert signers.register(session, NODE, key).state == "valid"
        signers.register_services(session, NODE, key.identity)
    with transactions.begin("cli:root") as session:
        assert [one.state for one in signers.revoke(session, key.identity[:12])] == ["revoked"]
    with transactions.begin("ada") as session:
        assert executions.cancel(session, poison, "not wanted any more")
        tasks.delegate(session, "Not wanted", slug="unwanted")
        assert task_ends.cancel(session, "unwanted").status == "cancelled"
    with transactions.begin("bob") as session:
        for slug in ("approved", "rejected", "undecided"):
            tasks.delegate(session, "Restart the cache", slug=slug, executor="node", requires_approval=True)
    own = SigningKey(Ed25519PrivateKey.generate())
    with transactions.begin("ada") as session:
        agent_keys.register(session, "ada", own.public)
    with transactions.begin("ada", voice=KeyVoice(own, "ada")) as session:
        approvals.decide(session, "approved", Decision.APPROVE, reason="fine")
    with transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "ada")
    with transactions.begin("ada") as session:
        approvals.decide(session, "rejected", Decision.REJECT, reason="not on a Friday")


def _vote(transactions: Transactions) -> None:
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


def _sign(transactions: Transactions) -> None:
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


def _investigate(transactions: Transactions) -> None:
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
        task = session_actions.propose(session, "INC-1", Proposed(content="Restart it", type="modify", target="cache"), slug="restart-cache")
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


def _divide(transactions: Transactions) -> None:
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
