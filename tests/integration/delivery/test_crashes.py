"""A door that dies between BEGIN and the receipt, at each step of it: what is recorded is sent, what is not recorded never was."""

import json
import subprocess
import sys
import uuid
from typing import Any

import pytest

from federation.broker.moving import waiting_messages
from federation.delivery.publisher import CeleryPublisher
from federation.placement.node import Gpu
from federation.services import agents, nodes
from federation.services.nodes import Announcement
from tests.integration.delivery.crashing import FOR_EVER_S

World = Any

RECORDED = "SELECT count(*) FROM executions WHERE id = %s"
IN_OUTBOX = "SELECT count(*) FROM outbox WHERE execution_id = %s"
TOLD = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.recorded'"
SAID = "SELECT count(*) FROM messages WHERE content = 'about ' || %s::text"
PLACED = "SELECT count(*) FROM events WHERE stream = 'execution:' || %s::text AND type = 'execution.placed'"


def announce(world: World, name: str) -> None:
    node = Announcement(name, "developer", (), (), (), (Gpu(kind="none", vram_gib=1),), (), 2, f"{name}@here", 1, uuid.uuid4(), simulated=True)
    with world.transactions.begin(f"node:{name}") as session:
        nodes.announce(session, node)


def taken(world: World, node: str) -> list[str]:
    """Take all messages from a node's queue, which nobody consumes; return their ids."""
    found = []
    with world.app.connection_for_write() as connection, waiting_messages(connection, node, limit=100) as messages:
        for message in messages:
            found.append(message.headers["id"])
            message.drop()
    return found


@pytest.mark.timeout(280)
def test_state_and_message_agree_whenever_a_door_dies(world: World) -> None:
    node = world.node("target")
    announce(world, node)
    with world.transactions.begin("tester") as session:
        agents.add(session, "ada", "lead")
    sweeper = CeleryPublisher(world.app, world.transactions.engine, stale_s=FOR_EVER_S)
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
        child.wait(30)
    assert (recorded, in_outbox, len(sent)) == (1, 0, 1)
    # Before the commit, after it, between the sending and its commit, and all the way.
    assert outcomes == {(False, False, 0), (True, True, 0), (True, True, 1), (True, False, 1)}
    # The first commit is the door's, the others are the publisher's.
    assert steps.count("before COMMIT") >= 3
    assert {"before send", "after send", "before wait_for_receipt", "after wait_for_receipt"} <= set(steps)
    assert any(step.startswith("before INSERT INTO executions") for step in steps)
    assert any(step.startswith("after DELETE FROM outbox") for step in steps)
