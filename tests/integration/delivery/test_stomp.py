"""Agents that speak STOMP get what is said to them, and what they say comes in under their own names and with their own rights, through any crash."""

import base64
import importlib.util
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from federation.broker.frames import MAX_FRAME_BYTES
from federation.local.ports import LOOPBACK
from federation.security.statements import Draft, content_sha256, nonce
from federation.services import agent_keys, agents, cop, feeds, history, inboxes, messages, sessions
from federation.services.sessions import Start
from federation.store import event_log
from federation.store.fixed_ids import fixed_id
from federation.store.models.conversations import Message
from tests.integration.services.stating import by_hand, made
from tests.integration.stomp.conftest import Raw

World = Any
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "stomp_peer.py"
WITHIN_S = 120.0


def example() -> Any:
    """The example, which is what these tests speak with."""
    specification = importlib.util.spec_from_file_location("stomp_peer", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def fed(world: World) -> World:
    """A world with ada, bob and eve, where bob speaks STOMP and a beat runs; what an earlier test left in the queues is gone."""
    with world.transactions.begin("cli:tester") as session:
        world.tokens = {name: agents.add(session, name, role) for name, role in {"ada": "lead", "bob": "developer", "eve": "analyst"}.items()}
        feeds.begin(session, None)
        feeds.begin(session, "bob")
        feeds.begin(session, "eve")
    world.stomp_door()
    world.celery("beat", name="beat")
    for name in ("bob", "eve"):
        left = example().Peer(LOOPBACK, world.stomp_port, name, world.tokens[name])
        left.say(confirm=True, id=f"end-{uuid.uuid4().hex}", type="state", state={"summary": "Here"})
        while not ((told := left.arrived.get(timeout=WITHIN_S)) and str(told.get("id")).startswith("end-")):
            pass
        left.client.disconnect()
    return world


@pytest.fixture
def peer(fed: World) -> Iterator[Callable[[str], Any]]:
    """Connects as an agent."""
    made: list[Any] = []

    def connect(name: str) -> Any:
        made.append(example().Peer(LOOPBACK, fed.stomp_port, name, fed.tokens[name]))
        return made[-1]

    yield connect
    for one in made:
        if one.client.is_connected():
            one.client.disconnect()


def get(peer: Any, kind: str | None = None) -> dict[str, Any]:
    """Return what comes next, of one type."""
    while True:
        message: dict[str, Any] = peer.arrived.get(timeout=WITHIN_S)
        if kind in {None, message["type"]}:
            return message


def say(world: World, who: str, content: str, **options: Any) -> messages.Sent:
    with world.transactions.begin(who) as session:
        return messages.send(session, content, **options)


def said(world: World, conversation: str, *, who: str = "ada") -> list[tuple[str, str]]:
    with world.transactions.begin(who) as session:
        return [(message.sender, message.content) for message in history.page(session, conversation, limit=200).messages]


def test_what_is_said_to_an_agent_comes_to_its_queue_and_to_everybody_to_the_topic(fed: World, peer: Callable[[str], Any]) -> None:
    bob, eve = peer("bob"), peer("eve")
    sent = say(fed, "ada", "Please review auth-module.py", to="bob", message_type="task")
    say(fed, "ada", "not for bob", to="eve")
    say(fed, "ada", "noon", message_type="finding", body={"category": "observation", "confidence": 0.5})
    both: list[dict[str, Any]] = []
    while len(both) < 2:
        # What is for all comes by the topic too, sooner or later than by the queue.
        both += [message for message in [get(bob)] if "cursor" in message]
    task, finding = both
    assert task["by"] == "/queue/federation.bob"
    assert (task["id"], task["source"], task["type"], task["content"]) == (
        str(sent.message_id),
        {"agent": "ada"},
        "task",
        "Please review auth-module.py",
    )
    assert (finding["finding"], finding["cursor"]) == ({"category": "observation", "confidence": 0.5, "content": "noon"}, 2)
    while (heard := get(eve))["by"] != "/topic/federation.broadcast":
        assert heard["by"] == "/queue/federation.eve"
    assert heard["content"] == "noon"
    # Copied, and not read: that it says itself.
    with fed.transactions.begin("bob") as session:
        assert len(inboxes.inbox(session).messages) == 2
    bob.say(type="read", cursor=1, confirm=True, id="r")
    assert get(bob, "done")["cursor"] == 1
    with fed.transactions.begin("bob") as session:
        assert [message.content for message in inboxes.inbox(session).messages] == ["noon"]


def test_a_message_that_activemq_does_not_take_holds_up_no_other(fed: World, peer: Callable[[str], Any]) -> None:
    eve = peer("eve")
    say(fed, "ada", "morning")
    # As it can be written beside the program.
    with fed.transactions.begin("ada") as session:
        place, identity = event_log.advance(session, "messages:commons"), uuid.uuid4()
        where = {"id": identity, "correlation_id": identity, "conversation_id": "commons", "position": place}
        session.add(Message(**where, sender="ada", message_type="chat", content="x" * MAX_FRAME_BYTES, trace_id="t"))
        about = {"message_id": identity, "message_type": "chat", "correlation_id": identity, "recipients": [], "content_sha256": "0" * 64}
        told = about | dict.fromkeys(("to", "audience", "reply_to", "body_sha256", "data_sha256"))
        event_log.append(session, "message.sent", "messages:commons", payload=told, conversation_id="commons", position=place)
    say(fed, "ada", "noon")
    while get(eve)["content"] != "noon":
        pass
    fed.until(lambda: "feeder.left_out" in fed.log("beat"), "it is told what was left out")


@pytest.mark.parametrize("named_by", ["id", "name"])
def test_the_session_out_of_which_an_agent_speaks_stays_with_what_it_says(fed: World, peer: Callable[[str], Any], named_by: str) -> None:
    with fed.transactions.begin("bob") as session:
        begun = sessions.join(session, "INC-1", Start(context={"task": "look"}), conversation_id="project-1")
    source = {"agent": "bob", "session": str(begun.id) if named_by == "id" else "INC-1"}
    bob, eve = peer("bob"), peer("eve")
    finding = {"category": "observation", "confidence": 0.5}
    with fed.transactions.begin("cli:root") as session:
        feeds.begin(session, "eve")
    bob.say(content="noon", type="finding", finding=finding, source=source, to="eve", conversation_id="project-1", id="f", confirm=True)
    bob.say("hello", source=source, to="eve", conversation_id="project-1", id="h", confirm=True)
    assert {get(bob, "done")["id"], get(bob, "done")["id"]} == {"f", "h"}
    with fed.transactions.begin("eve") as session:
        found = {message.content: message.data for message in inboxes.inbox(session).messages}
    assert found == {"noon": finding | {"source_session": str(begun.id)}, "hello": {"source_session": str(begun.id)}}
    copies: dict[str, Any] = {}
    # An earlier test may have left something in the queue.
    while copies.keys() < {"noon", "hello"}:
        copies |= {copy["content"]: copy for copy in [get(eve)] if copy.get("conversation_id") == "project-1"}
    assert [copies[said]["source"] for said in ("noon", "hello")] == [{"agent": "bob", "session": str(begun.id)}] * 2
    assert (copies["noon"]["finding"], "chat" in copies["hello"]) == (finding | {"content": "noon"}, False)


def test_what_an_agent_says_is_its_own_and_may_do_what_it_may(fed: World, peer: Callable[[str], Any]) -> None:
    say(fed, "ada", "psst", to="eve", conversation_id="secret")
    asked = say(fed, "ada", "What is the error rate?", to="bob", message_type="request")
    bob = peer("bob")
    bob.say("hello", to="eve", conversation_id="project-123", id="first", confirm=True)
    done = get(bob, "done")
    assert (done["id"], done["recipients"], done["position"]) == ("first", ["eve"], 1)
    assert said(fed, "project-123", who="eve") == [("bob", "hello")]
    bob.say("5 %", reply_to=str(asked.message_id))
    bob.say(type="state", state={"summary": "Counting", "capabilities": ["count_words"]}, id="second", confirm=True)
    assert get(bob, "done")["id"] == "second"
    assert said(fed, "direct:ada:bob") == [("ada", "What is the error rate?"), ("bob", "5 %")]
    with fed.transactions.begin("ada") as session:
        [row] = [row for row in cop.pulse(session, node_stale_s=6, agent_stale_s=600) if row.name == "bob"]
    assert (row.summary, row.capabilities) == ("Counting", ["count_words"])
    stated = "SELECT DISTINCT action, mode, starts_with(attested_by, 'service:') FROM statements WHERE actor = 'bob'"
    assert fed.rows(stated) == [("message.send", "attested", True)]
    refused = {
        "half signed": ({"content": "x", "statement": "{}"}, "signature: got None, wants both"),
        "signed wrong": ({"content": "x", "statement": "{}", "signature": f"{'A' * 86}=="}, "A statement is signed by its author"),
        "as ada": ({"content": "x", "source": {"agent": "ada"}}, "source.agent: got 'ada', wants bob"),
        "out of nowhere": (
            {"content": "x", "source": {"session": "INC-9"}},
            "source.session: got 'INC-9', wants a session of a conversation of yours",
        ),
        "reads out of one": ({"type": "read", "cursor": 0, "source": {"session": "INC-9"}}, "source.session: got 'INC-9', wants nothing in a read"),
        "a stranger": ({"content": "x", "conversation_id": "secret"}, "Need to know: bob is not a member of secret"),
        "too sure": (
            {"type": "finding", "finding": {"category": "observation", "confidence": 1.1}},
            "body.confidence: got 1.1, wants less than or equal to 1",
        ),
        "nobody": ({"content": "x", "to": "bobb"}, "no agent 'bobb'; nearest: bob"),
        "junk": ({"content": "x", "recipient": "eve"}, "recipient: got 'eve', wants no such field"),
        "shout": ({"content": "x", "type": "shout"}, "type: got 'shout', wants one of action, chat"),
        "half": ({"content": "x", "action": {"type": "query"}}, "action: got"),
        "nothing": ({}, "content: got None, wants a text"),
        "nul": ({"content": "a\0b"}, "content: got '3 characters', wants text without NUL"),
        "seen": ({"type": "read", "cursor": 999}, "after: got 999, wants a cursor"),
    }
    for name, (message, why) in refused.items():
        bob.say(**{"id": name.replace(" ", "-"), "content": None, **message})
        told = get(bob, "refused")
        assert told["id"] == name.replace(" ", "-")
        assert told["error"].startswith(why), told
    for junk in ("[1]", "{", '{"content": NaN}', "\0"):
        bob.client.send("/queue/federation.from.bob", junk, headers={"content-type": "application/json"})
        assert get(bob, "refused")["error"].startswith("body: got"), junk
    for body in ("as ada", '{"content": "as ada", "to": "eve"}'):
        bob.client.send("/queue/federation.from.bob", body, headers={"to": "eve", "sender": "ada", "persistent": "true"})
        assert get(bob, "refused")["error"].startswith("header sender: got 'ada', wants bob"), body
    bob.client.send("/queue/federation.from.bob", "in plain words", headers={"to": "eve", "sender": "bob", "persistent": "true"})
    bob.say("done", to="eve", id="last", confirm=True)
    assert get(bob, "done")["id"] == "last"
    assert said(fed, "direct:bob:eve", who="eve") == [("bob", "in plain words"), ("bob", "done")]
    assert said(fed, "secret", who="eve") == [("ada", "psst")]
    with fed.transactions.begin("cli:tester") as session:
        feeds.end(session, "bob")
    fed.until(lambda: not fed.rows("SELECT 1 FROM feeds WHERE agent = 'bob'"), "bob is fed no more")


def test_an_agent_that_speaks_stomp_may_sign_what_it_says(fed: World, peer: Callable[[str], Any]) -> None:
    key = made()
    with fed.transactions.begin("bob") as session:
        agent_keys.register(session, "bob", key.public)
    about = {"audience": None, "body_sha256": None, "content_sha256": sha256(b"hello").hexdigest(), "conversation_id": "project-123"}
    about |= {"message_type": "chat", "reply_to": None, "to": "eve"}
    subject = f"message:{fixed_id('message', json.dumps(['project-123', 'bob', 'first']))}"
    said = Draft("bob", "message.send", "send", subject, content_sha256(about), datetime.now(UTC).isoformat(), nonce())
    signed = by_hand(key, said).signed
    bob = peer("bob")
    sent = {"to": "eve", "conversation_id": "project-123", "id": "first", "confirm": True}
    bob.say("hello", **sent, statement=signed.text, signature=base64.b64encode(signed.signature).decode())
    assert get(bob, "done")["id"] == "first"
    assert fed.rows("SELECT actor, mode FROM statements WHERE subject = %s", subject) == [("bob", "signed")]
    with fed.transactions.begin("cli:tester") as session:
        feeds.begin(session, "eve")
    eve = peer("eve")
    while (copied := get(eve)).get("id") != subject.partition(":")[2]:
        pass
    say(fed, "ada", "nothing signed", to="eve")
    assert copied["signed"]
    assert "signed" not in get(eve)
    with fed.transactions.begin("cli:tester") as session:
        feeds.end(session, "bob")
    fed.until(lambda: not fed.rows("SELECT 1 FROM feeds WHERE agent = 'bob'"), "bob is fed no more")


def test_each_message_is_heard_once_and_fed_in_order_though_beat_and_broker_die(fed: World, peer: Callable[[str], Any], activemq: Any) -> None:
    count = 60
    peers = [peer("bob")]
    for number in range(count):
        peers[-1].say(f"{number}", conversation_id="flood", id=f"flood-{number}")
        say(fed, "ada", f"{number}", to="bob", conversation_id="feed")
        if number == count // 3:
            os.kill(fed.processes[-1].pid, signal.SIGKILL)
        if number == 2 * count // 3:
            peers[-1].client.disconnect()
            activemq.kill()
            activemq.start()
            fed.celery("beat", name="beat")
            peers.append(peer("bob"))
    fed.until(lambda: len(said(fed, "flood", who="bob")) >= count, "all is heard", within_s=WITHIN_S)
    assert said(fed, "flood", who="bob") == [("bob", f"{number}") for number in range(count)]
    got = [message["content"] for message in drained(peers[0]) if message.get("conversation_id") == "feed"]
    while len(set(got)) < count:
        got += [message["content"] for message in [get(peers[1])] if message.get("conversation_id") == "feed"]
    # Each comes at least once, and for the first time in order.
    assert list(dict.fromkeys(got)) == [f"{number}" for number in range(count)]


def test_what_was_receipted_is_heard_once_though_the_door_dies(fed: World) -> None:
    """Who is not told that a message was taken sends it again, under the same name."""
    # More than the door passes at once, so that it dies before it has passed all.
    count = 200
    receipted: set[str] = set()

    def speak(numbers: list[int]) -> Raw:
        client = Raw(fed.stomp_port).say("CONNECT", accept_version="1.2", passcode=fed.tokens["bob"])
        client.frame()
        for number in numbers:
            said = {"content": f"{number}", "conversation_id": "kill", "id": f"kill-{number}"}
            body = json.dumps(said).encode()
            client.say("SEND", body, destination="/queue/federation.from.bob", persistent="true", receipt=f"{number}")
        return client

    client = speak(list(range(count)))
    while len(receipted) < 20 and (frame := client.frame()) is not None:
        receipted.add(frame.headers["receipt-id"])
    door = fed.processes[0]
    os.kill(door.pid, signal.SIGKILL)
    while (frame := client.frame()) is not None:
        receipted.add(frame.headers["receipt-id"])
    assert 20 <= len(receipted) < count
    door.wait()
    fed.stomp_door()
    missing = [number for number in range(count) if f"{number}" not in receipted]
    again = speak(missing)
    for _ in missing:
        told = again.frame()
        assert told is not None
        assert told.command == "RECEIPT"
    fed.until(lambda: len(said(fed, "kill", who="bob")) >= count, "all is heard", within_s=WITHIN_S)
    assert sorted(content for _, content in said(fed, "kill", who="bob")) == sorted(f"{number}" for number in range(count))


def drained(peer: Any) -> list[dict[str, Any]]:
    return [message for _ in range(peer.arrived.qsize()) if (message := peer.arrived.get()) is not None]
