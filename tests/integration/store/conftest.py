"""The main job without workers: each verb once, in the name of who does it in a running federation."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, text

from federation.errors import Conflict
from federation.placement.node import Gpu
from federation.security.signing import SigningKey
from federation.security.statements import KeyVoice
from federation.services import (
    agent_keys,
    agents,
    approvals,
    artifacts,
    cached_answers,
    claim_lines,
    cop,
    executions,
    feeds,
    graph,
    inboxes,
    indexing,
    inference,
    memories,
    messages,
    nodes,
    quarantine,
    requests,
    resource_claims,
    retrieval,
    signers,
    summaries,
    summary_schedules,
    task_claims,
    task_ends,
    tasks,
)
from federation.services.approvals import Decision
from federation.services.artifacts import Offered
from federation.services.graph import Text
from federation.services.indexed_documents import NewDocument
from federation.services.nodes import Announcement
from federation.store import outbox
from federation.store.contents import Stored
from federation.store.fixed_ids import fixed_id
from federation.store.models.conversations import Message
from federation.store.models.graph import Source
from federation.transaction import Transactions, new_trace_id
from federation.vectors import chunking
from tests.integration.store.together import divide, investigate, sign, vote

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
        _ask_again,
        _index,
        _remember,
        _relate,
        _give_up,
        vote,
        sign,
        investigate,
        divide,
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
    told: Any = {"task_name": "some.task", "worker": "aorus@host", "pid": 1, "actor": NODE, "trace_id": new_trace_id()}
    with transactions.single() as session:
        executions.record_delivery(session, execution_id, task_id=str(execution_id), **told, redelivered=redelivered)


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
    with transactions.begin("ada") as session:
        summary_schedules.put(session, "commons", messages=20)
        summary_schedules.remove(session, "commons")
        summary_schedules.put(session, "project-123", cron="0 7 * * *")
    with transactions.begin("bob") as session:
        summary_schedules.put(session, "project-123", cron="0 7 * * mon-fri", messages=40)


def _work_as_agents(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "Profile the memory", slug="memory-profile", conversation_id="project-123").id
    with transactions.begin("bob") as session:
        asked = outbox.record(session, task_claims.CLAIM, {"task_id": str(task), "description": "", "ttl_s": 60}, priority=10)
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


def _ask_again(transactions: Transactions) -> None:
    run = {"engine": "llamacpp", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
    run |= {"completion": "A race.", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 3, "seconds": 0.1}
    asked = []
    # There is room for one: the second takes the place of the first, and is given again.
    for prompt in ("Name one thing", "Name another", "Name another"):
        with transactions.begin("ada") as session:
            asked.append(inference.request(session, prompt, cache=True, conversation_id="commons"))
        _deliver(transactions, asked[-1])
    for execution_id in asked[:2]:
        with transactions.begin("ada", execution_id=execution_id) as session:
            assert inference.record_run(session, run)
            cached_answers.keep(session, key="k", conversation_id="commons", prompt=str(execution_id), vector=b"")
    with transactions.begin("ada", execution_id=asked[2]) as session:
        reused = {"execution_id": str(asked[1]), "by": "ada", "similarity": 1.0, "age_s": 0.1}
        assert inference.record_run(session, {**run, "cached": reused})
        cached_answers.use(session, asked[1])


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
            indexing.record_words(session, run_id, indexing.unsearchable(session, run_id))
            indexing.record_searchable(session, run_id)
            done = indexing.call_for_vectors(session, run_id)
            batches = [fixed_id("embed", run_id, number) for number in range(done.batches)]
        for execution_id in batches:
            with transactions.begin("ada", execution_id=execution_id) as session:
                vectors = {chunk.id: b"\0" * 4 for chunk in indexing.batch(session, execution_id)}
                indexing.record_vectors(session, execution_id, node="aorus", model="m", vectors=vectors)
        return run_id

    first = embedded([document("a.py", "one", "two"), document("b.py", "three")])
    with transactions.begin("ada") as session:
        assert indexing.record_written(session, first, [chunk.id for chunk, _ in indexing.staged(session, first)]).finished
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


def _relate(transactions: Transactions) -> None:
    """Read a message into the graph."""
    with transactions.begin("service:beat") as session:
        said = session.scalars(select(Message).order_by(Message.created_at)).first()
        assert said is not None
        read = Text(Source.MESSAGE, said.id, said.conversation_id, said.sender, said.created_at, "auth.py depends on db.py")
        graph.record(session, [read], upto=0)


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
