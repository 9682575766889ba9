"""The federation killed and interrupted at the worst moments: no process of ours stays, and what was stored is there afterwards. One story."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Queue

import federation.broker
from federation.local import children, state
from federation.local.home import Home
from federation.local.state import PartState

pytestmark = [pytest.mark.timeout(900), pytest.mark.story]

assert federation.broker  # imported for its side effect: kombu then knows activemq://

UP = ("federation", "up", "--nodes", "baby")
WITHIN_S = 240.0
KEPT = Queue("federation.kept", durable=True)


def starts(name: str) -> Callable[[Any], bool]:
    """Whether a part is starting now, from the supervisor's own file: the command `status` takes as long as some parts do to start."""

    def look(federation: Any) -> bool:
        view = state.running(Home(federation.data_dir))
        return view is not None and any(part.name == name and part.state is PartState.STARTING for part in view.parts)

    return look


def test_killed_while_the_database_is_made(federation) -> None:
    up = federation.start(*UP)
    assert children.wait_until(lambda: federation.runs("initdb"), WITHIN_S, every_s=0.01)
    up.kill()
    up.communicate()
    assert federation.all_gone()


def test_killed_while_it_runs(federation) -> None:
    done = federation.run(*UP, "--detach")
    assert done.returncode == 0, done.stdout + done.stderr
    assert federation.run("federation", "agent", "add", "nora", "--role", "lead").returncode == 0
    with Connection(federation.status()["broker_url"]) as broker:
        broker.Producer().publish({"kept": True}, routing_key=KEPT.name, declare=[KEPT], delivery_mode=2)
    os.kill(federation.status()["pid"], signal.SIGKILL)
    assert federation.all_gone()
    assert federation.run("federation", "status").returncode == 3


@pytest.mark.parametrize("name", ["activemq", "migrations", "baby"])
def test_killed_while_a_part_starts(federation, name: str) -> None:
    up = federation.start(*UP)
    assert children.wait_until(lambda: starts(name)(federation), WITHIN_S, every_s=0.01)
    up.kill()
    up.communicate()
    assert federation.all_gone()


def test_terminal_closed_while_it_starts(federation) -> None:
    up = federation.terminal(*UP)
    up.read_until("postgres")
    assert children.wait_until(lambda: starts("baby")(federation), WITHIN_S)
    assert up.close() == 130
    assert federation.all_gone()


def test_interrupted_twice_while_it_starts_in_the_background(federation) -> None:
    up = federation.start(*UP, "--detach")
    assert children.wait_until(lambda: starts("activemq")(federation), WITHIN_S, every_s=0.01)
    up.send_signal(signal.SIGINT)
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=WITHIN_S)
    assert up.returncode == 130
    assert federation.all_gone()


def test_all_that_was_stored_is_there_and_ctrl_c_twice_ends_it_at_once(federation) -> None:
    up = federation.terminal(*UP)
    up.read_until("The federation is running.")
    assert federation.run("federation", "agent", "list").stdout.splitlines()[1].startswith("nora")
    with Connection(federation.status()["broker_url"]) as broker:
        message = KEPT(broker.default_channel).get()
        assert message.payload == {"kept": True}
        message.ack()
    # A demo needs other nodes than these, and neither takes them nor harms what runs.
    demo = federation.run("federation", "demo")
    assert demo.returncode == 1
    assert "without taichi, aorus" in demo.stdout + demo.stderr
    assert federation.status()["phase"] == "running"
    up.process.send_signal(signal.SIGINT)
    up.read_until("stopping")
    up.process.send_signal(signal.SIGINT)
    assert up.close() == 0
    assert federation.all_gone()
