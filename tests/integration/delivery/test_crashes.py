"""Who dies between BEGIN and the receipt, at each step: what a door recorded is sent, what a relay numbered is told, and nothing else ever was."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from federation.broker.moving import waiting_messages
from federation.delivery.publisher import CeleryPublisher
from federation.delivery.relay import TOPIC
from federation.local.ports import LOOPBACK
from federation.placement.node import Gpu
from federation.services import agents, feeds, inboxes, messages, nodes
from federation.services.nodes import Announcement
from tests import forks
from tests.integration.delivery.crashing import AT_ONCE, FOR_EVER_S
from tests.integration.delivery.test_relay import followed, stored
from tests.integration.delivery.test_stomp import example

World = Any

# As Linux writes it in /proc/net/tcp.
CLOSE_WAIT = "08"
RECORDED = "SELECT count(*) FROM executions WHERE id = %s"
IN_OUTBOX = "SELECT count(*) FROM outbox WHERE execution_id = %s"
TOLD = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.recorded'"
SAID = "SELECT count(*) FROM messages WHERE content = 'about ' || %s::text"
PLACED = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.placed'"

# How far the topics were told, bob was fed, and all were; and how far there is something.
NOTED = """
SELECT published, (SELECT position FROM feeds WHERE agent = 'bob'), (SELECT position FROM feeds WHERE agent IS NULL) FROM event_relay
"""
THERE = """
SELECT (SELECT count(*) FROM events), (SELECT max(position) FROM message_receipts WHERE agent = 'bob'),
    (SELECT max(position) FROM messages WHERE conversation_id = 'commons')
"""
SETTLED_WITHOUT_NUMBER = """
SELECT count(*) FROM events WHERE sequence <= (SELECT settled FROM event_relay) AND sequence NOT IN (SELECT sequence FROM event_order)
"""


def announce(world: World, name: str) -> None:
    node = Announcement(name, "developer", (), (), (), (Gpu(kind="none", vram_gib=1),), (), 2, f"{name}@here", 1, uuid.uuid4(), simulated=True)
    with world.transactions.begin(f"node:{name}") as session:
        nodes.announce(session, node)


def read_to_the_end(world: World) -> bool:
    """Whether ActiveMQ has read all that dead clients have written: until it comes to their end, its side of such a connection stays."""
    port = urlsplit(world.broker_url).port
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return not any(int(local.rpartition(":")[2], 16) == port and state == CLOSE_WAIT for _, local, _, state, *_ in lines)


def taken(world: World, node: str) -> list[str]:
    """Take all messages from a node's queue, which nobody consumes; return their ids."""
    found = []
    with world.app.connection_for_write() as connection, waiting_messages(connection, node, limit=100) as messages:
        for message in messages:
            found.append(message.headers["id"])
            message.drop()
    return found


@dataclass(frozen=True)
class Told:
    """What came of one child: to which steps it came, and whether it died at the last of them."""

    execution_id: str
    steps: list[str]
    died: bool
    lived_s: float

    @property
    def died_at(self) -> str | None:
        return self.steps[-1] if self.died else None


DieAt = Callable[[float], Told]


@contextmanager
def dying(world: World, part: str) -> Iterator[DieAt]:
    """Yield what has a child do the work of this part and die at a step, or at none where that is 0 or too many."""
    with ExitStack() as stack:
        (asked, ask), (answers, answer) = os.pipe(), os.pipe()
        theirs = [os.fdopen(asked, "rb"), os.fdopen(answer, "wb"), (world.folder / f"{part}.log").open("ab")]
        child = forks.start("crashing", part, cwd=world.folder, env=world.environment(), stdin=theirs[0], stdout=theirs[1], stderr=theirs[2])
        for file in theirs:
            file.close()
        stack.callback(child.wait, 60)
        told, said = stack.enter_context(os.fdopen(answers)), stack.enter_context(os.fdopen(ask, "w"))

        def die_at(step: float) -> Told:
            print(step, file=said, flush=True)
            line = told.readline()
            assert line, world.log(part)
            return Told(**json.loads(line))

        yield die_at


def deaths(die_at: DieAt, every: int) -> Iterator[Told]:
    """Have children die at the first step and at each so many-th after it, one at none, and one at the last."""
    step = 1
    while (told := die_at(step)).died:
        yield told
        step += every
    yield told
    yield die_at(len(told.steps))


# Odd, so that it hits moments before something and moments after it in turn; whatever is seen from outside stays so for four steps at least.
EACH_STEP = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 3], ids=["each step", "each third step"])


@EACH_STEP
@pytest.mark.timeout(600)
def test_state_and_message_agree_whenever_a_door_dies(world: World, every: int) -> None:
    node = world.node("target")
    announce(world, node)
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
    sweeper = CeleryPublisher(world.app, world.transactions.service, stale_s=FOR_EVER_S)
    steps: list[str] = []
    outcomes: set[tuple[bool, bool, int]] = set()
    with dying(world, "door") as die_at:
        for told in deaths(die_at, every):
            identity, died_at = told.execution_id, told.died_at
            recorded, in_outbox, events, said = (world.rows(query, identity)[0][0] for query in (RECORDED, IN_OUTBOX, TOLD, SAID))
            # All of the transaction or nothing of it.
            assert recorded == events == said, died_at
            world.until(lambda: read_to_the_end(world), "ActiveMQ has read what the dead door has written")
            sent = taken(world, node)
            assert set(sent) <= {identity}, died_at
            assert len(sent) <= recorded, died_at
            # What is recorded lies in the outbox or in the queue, or in both for as long as the sender's commit is not done.
            assert recorded == (in_outbox or len(sent)), died_at
            outcomes.add((bool(recorded), bool(in_outbox), len(sent)))
            sweeper.sweep()
            swept = taken(world, node)
            assert swept == [identity] * in_outbox, died_at
            assert world.rows(IN_OUTBOX, identity) == [(0,)], died_at
            assert world.rows(PLACED, identity) == [(recorded,)], died_at
            if not told.died:
                steps = told.steps
                assert (recorded, in_outbox, len(sent)) == (1, 0, 1)
    # Before the commit, after it, between the sending and its commit, and all the way.
    assert outcomes == {(False, False, 0), (True, True, 0), (True, True, 1), (True, False, 1)}
    # The first commit is the door's, the others are the publisher's.
    assert steps.count("before COMMIT") >= 3
    assert {"before send", "after send", "before wait_for_receipt", "after wait_for_receipt"} <= set(steps)
    assert any(step.startswith("before WITH made AS") for step in steps)
    assert any(step.startswith("after WITH told AS") for step in steps)


# All that one broadcast made, at one moment: messages, events that tell of them, inboxes in which they are, and how many there are.
SPREAD = """
WITH said AS (SELECT id FROM messages WHERE content = 'about ' || %s::text)
SELECT (SELECT count(*) FROM said), (SELECT count(*) FROM events JOIN said ON payload->>'message_id' = said.id::text WHERE type = 'message.sent'),
    (SELECT count(DISTINCT agent) FROM message_receipts JOIN said ON message_id = said.id), (SELECT count(*) - 1 FROM agents)
"""
UNDER_WAY = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
AGENTS, AT_ANY_MOMENT = 60, 60


@pytest.mark.timeout(600)
def test_a_message_to_all_is_in_all_inboxes_or_in_none_whenever_its_sender_is_killed(world: World, tell: Callable[[str], None]) -> None:
    names = [f"agent-{number}" for number in range(AGENTS)]
    with world.transactions.begin("cli:tester") as session:
        for name in ("ada", *names):
            agents.add(session, name, "lead")
    came: list[str] = []
    dice = Random(8)

    def spread(told: Told) -> bool:
        """Say whether it came to all; it came to all or to none."""
        world.until(lambda: world.rows(UNDER_WAY) == [(0,)], "PostgreSQL has ended what the dead had begun")
        [(said, events, inboxes_, others)] = world.rows(SPREAD, told.execution_id)
        assert (said, events, inboxes_) in {(0, 0, 0), (1, 1, others)}, told.died_at
        if "after COMMIT" in told.steps:
            assert said == 1, "what its sender knew to be recorded"
        if said:
            came.append(told.execution_id)
        return bool(said)

    with dying(world, "speaker") as die_at:
        # The first of all opens the conversation.
        assert spread(die_at(0))
        whole = die_at(0)
        assert spread(whole)
        each = [(told.died_at, spread(told)) for told in deaths(die_at, 1)]
        assert len(each) >= len(whole.steps), "at each of its steps"
        assert [reached for died_at, reached in each if died_at == "before COMMIT"] == [False]
        assert {reached for _, reached in each} == {True, False}
        # And between the steps, within the writing of one of them.
        at_any_moment = [spread(die_at(dice.uniform(0, 1.1 * whole.lived_s))) for _ in range(AT_ANY_MOMENT)]
    tell(f"of {AT_ANY_MOMENT} senders killed at any moment {sum(at_any_moment)} had told all {AGENTS}, and the others nobody")
    # What came came in one order, which has no gaps, and all have the same.
    for name in names:
        with world.transactions.begin(name) as session:
            mine = inboxes.inbox(session, limit=200)
        assert [message.content for message in mine.messages] == [f"about {identity}" for identity in came]
        assert [message.cursor for message in mine.messages] == list(range(1, len(came) + 1))
    assert world.rows("SELECT array_agg(position ORDER BY position) FROM messages") == [(list(range(1, len(came) + 1)),)]


def marked(arrived: "SimpleQueue[dict[str, Any]]", say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return what has come to a subscription up to now: a mark that is said last comes last."""
    mark = uuid.uuid4().hex
    say(json.dumps({"id": mark}))
    got: list[dict[str, Any]] = []
    while (said := arrived.get(timeout=120)).get("id") != mark:
        got.append(said)
    return got


@EACH_STEP
@pytest.mark.timeout(600)
def test_each_event_is_told_and_each_inbox_copied_in_order_whenever_a_relay_dies(world: World, activemq: Any, every: int) -> None:
    with world.transactions.begin("cli:tester") as session:
        tokens = {name: agents.add(session, name, "lead") for name in ("ada", "bob")}
        feeds.begin(session, None)
        feeds.begin(session, "bob")
    world.stomp_door()
    peer = example().Peer(LOOPBACK, world.stomp_port, "bob", tokens["bob"])
    steps: list[str] = []
    outcomes: set[tuple[int, ...]] = set()
    known: dict[int, str] = {}
    with followed(activemq) as follower, dying(world, "relay") as die_at:
        to = {where: partial(follower.client.send, where) for where in (f"{TOPIC}mark", feeds.queue_of("bob"), feeds.BROADCAST)}

        def heard() -> list[list[int]]:
            """Return the numbers of events, the places in bob's inbox and those in the commons, in the order in which they came."""
            world.until(lambda: read_to_the_end(world), "ActiveMQ has read what the dead relay has written")
            events, mine, all_else = marked(follower.arrived, to[f"{TOPIC}mark"]), *(marked(peer.arrived, to[where]) for where in list(to)[1:])
            known.update({event["number"]: event["id"] for event in events})
            copies = [copy for copy in mine + all_else if "content" in copy]
            return [
                [event["number"] for event in events],
                [copy["cursor"] for copy in copies if "cursor" in copy],
                [copy["position"] for copy in copies if "cursor" not in copy],
            ]

        def speak() -> None:
            for recipient in ("bob", "bob", None):
                with world.transactions.begin("ada") as session:
                    messages.send(session, "noon", to=recipient)

        def die_having_spoken(step: int) -> Told:
            speak()
            return die_at(step)

        assert not die_having_spoken(0).died
        heard()
        [began] = world.rows(NOTED)
        for told in deaths(die_having_spoken, every):
            died_at = told.died_at
            by_the_dead = heard()
            [noted] = world.rows(NOTED)
            [(numbered,)] = world.rows("SELECT count(*) FROM event_order WHERE number > %s", began[0])
            assert world.rows(SETTLED_WITHOUT_NUMBER) == [(0,)], died_at
            assert len(by_the_dead[0]) <= numbered, died_at
            for start, got, end in zip(began, by_the_dead, noted, strict=True):
                assert got == list(range(start + 1, start + 1 + len(got))), died_at
                # What is noted was told; what was told is noted, or was of the one batch that was under way.
                assert end - start <= len(got) <= end - start + AT_ONCE, died_at
            outcomes.add(
                (numbered, *(figure for start, got, end in zip(began, by_the_dead, noted, strict=True) for figure in (len(got), end - start)))
            )
            assert not die_at(0).died
            by_the_next = heard()
            [ended] = world.rows(NOTED)
            # It goes on after what is noted, so that nothing is left out and a batch at most comes twice.
            assert by_the_next == [list(range(end + 1, last + 1)) for end, last in zip(noted, ended, strict=True)], died_at
            assert [ended] == world.rows(THERE), died_at
            began = ended
            if not told.died:
                steps = told.steps
    peer.client.disconnect()
    assert sorted(known.items()) == stored(world)
    # Three events, two copies for bob and one for all beside what is for all in bob's inbox; each batch told before it is noted.
    assert outcomes == {
        (0, 0, 0, 0, 0, 0, 0),
        *((3, *events, 0, 0, 0, 0) for events in ((0, 0), (2, 0), (2, 2), (3, 2))),
        *((3, 3, 3, *copies, 0, 0) for copies in ((0, 0), (2, 0), (2, 2), (3, 2))),
        *((3, 3, 3, 3, 3, *copies) for copies in ((0, 0), (1, 0), (1, 1))),
    }
    for statement in ("WITH unnumbered AS", "UPDATE event_relay SET", "UPDATE feeds SET"):
        assert {f"before {statement}", f"after {statement}"} <= set(steps)
    assert {"before send", "after send", "before wait_for_receipt", "after wait_for_receipt", "before COMMIT", "after COMMIT"} <= set(steps)
