"""A door that dies between BEGIN and the receipt, at each step of it: what is recorded is sent, what is not recorded never was."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from federation.broker.moving import waiting_messages
from federation.delivery.publisher import CeleryPublisher
from federation.placement.node import Gpu
from federation.services import agents, nodes
from federation.services.nodes import Announcement
from tests.integration.delivery.crashing import FOR_EVER_S

World = Any

# As Linux writes it in /proc/net/tcp.
CLOSE_WAIT = "08"
RECORDED = "SELECT count(*) FROM executions WHERE id = %s"
IN_OUTBOX = "SELECT count(*) FROM outbox WHERE execution_id = %s"
TOLD = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.recorded'"
SAID = "SELECT count(*) FROM messages WHERE content = 'about ' || %s::text"
PLACED = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.placed'"


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


@pytest.mark.timeout(600)
def test_state_and_message_agree_whenever_a_door_dies(world: World) -> None:
    node = world.node("target")
    announce(world, node)
    with world.transactions.begin("cli:tester") as session:
        agents.add(session, "ada", "lead")
    sweeper = CeleryPublisher(world.app, world.transactions.service, stale_s=FOR_EVER_S)
    child = subprocess.Popen(
        [sys.executable, "-m", "crashing"], env=world.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=world.folder
    )
    assert child.stdin is not None
    assert child.stdout is not None
    steps: list[str] = []
    outcomes: set[tuple[bool, bool, int]] = set()
    try:
        while True:
            child.stdin.write(f"{len(steps) + 1}\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            identity, died_at = told["execution_id"], told["died_at"]
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
            if died_at is None:
                break
            steps.append(died_at)
    finally:
        child.stdin.close()
        child.wait(60)
    assert (recorded, in_outbox, len(sent)) == (1, 0, 1)
    # Before the commit, after it, between the sending and its commit, and all the way.
    assert outcomes == {(False, False, 0), (True, True, 0), (True, True, 1), (True, False, 1)}
    # The first commit is the door's, the others are the publisher's.
    assert steps.count("before COMMIT") >= 3
    assert {"before send", "after send", "before wait_for_receipt", "after wait_for_receipt"} <= set(steps)
    assert any(step.startswith("before WITH made AS") for step in steps)
    assert any(step.startswith("after DELETE FROM outbox") for step in steps)
