"""A peer that is there and does nothing: its silence is noticed by the heart-beats of the other side."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.errors import ConnectionLost
from tests.faults.diary import PATIENCE_S, Diary, wait_for
from tests.faults.fleet import Fleet
from tests.faults.publishing import Client
from tests.faults.receiving import take
from tests.toll import Toll

LOST = "Connection to broker lost"


@pytest.mark.fault("transport: worker SIGSTOPped with messages in hand")
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_frozen_worker_is_cut_and_its_messages_go_to_a_peer(
    fleet: Fleet, client: Client, diary: Diary, tmp_path: Path, toll: Toll, pool: str
) -> None:
    gate = tmp_path / "gate"
    frozen = fleet.start(pool=pool, heartbeat_s=1, slots=1, worker_prefetch_multiplier=3)
    held = [client.send("hold", str(gate)) for _ in range(3)]
    wait_for(lambda: diary.ids("start"), "the first runs")
    frozen_at = time.monotonic()
    frozen.freeze()
    peer = fleet.start(slots=3)
    # One was running and two were waiting in the worker's memory.
    wait_for(lambda: {line.task_id for line in diary.lines if peer.wrote(line)} == set(held), lambda: f"the peer has all three: {diary.lines}")
    gate.touch()
    diary.wait_until_all_ended(held)
    again = [line for line in diary.lines if peer.wrote(line) and line.what == "start"]
    assert all(line.redelivered for line in again)
    toll.recovery_s.append(diary.taken_over_s(held, frozen.pid, frozen_at))
    frozen.thaw()
    # It ends what it had begun, cannot acknowledge it, and consumes again.
    wait_for(lambda: LOST in frozen.log, lambda: f"it sees that it was cut\n{frozen.log}")
    peer.kill()
    after = client.send("work")
    diary.wait_until_all_ended([after])
    assert all(frozen.wrote(line) for line in diary.lines if line.task_id == after)
    if pool == "prefork":
        # The others begin what they had fetched before they see that they were cut: docs/reference/broker.md says so.
        diary.check_reruns_are_marked()
    toll.happened(1, work=len(held) + 1)


def test_a_frozen_worker_is_cut_while_others_talk_to_it(fleet: Fleet, client: Client, diary: Diary, tmp_path: Path) -> None:
    """What the broker sends is no sign of life of whoever it sends to."""
    gate = tmp_path / "gate"
    frozen = fleet.start(heartbeat_s=1, slots=1)
    held = client.send("hold", str(gate))
    wait_for(lambda: diary.ids("start"), "it runs")
    frozen.freeze()
    peer = fleet.start()

    def is_run_by_the_peer_as_well() -> bool:
        # A command to all workers, as an event is that each sends to the others.
        client.app.control.broadcast("heartbeat")
        time.sleep(0.1)
        return len(diary.starts(held)) == 2

    wait_for(is_run_by_the_peer_as_well, lambda: f"the peer has it: {diary.lines}")
    assert diary.starts(held)[-1].worker == peer.pid
    gate.touch()
    diary.wait_until_all_ended([held])


def test_a_long_task_that_never_yields_to_other_greenlets_is_cut_by_its_own_silence_and_its_second_run_is_marked(
    broker: Any, fleet: Fleet, client: Client, diary: Diary, prefix: str, tmp_path: Path
) -> None:
    """docs/how-to/celery-on-activemq.md says what to do."""
    gate = tmp_path / "gate"
    silent = fleet.start(pool="gevent", heartbeat_s=1)
    held = client.send("block", str(gate))
    wait_for(lambda: held in diary.ids("start"), "it runs")
    with kombu.Connection(broker.url, connect_timeout=PATIENCE_S) as peer:
        message = take(peer, f"{prefix}work")
        assert (message.headers["id"], message.delivery_info["redelivered"]) == (held, True)
        assert held not in diary.ids("end")
        message.ack()
    gate.touch()
    wait_for(lambda: LOST in silent.log, lambda: f"it sees that it was cut\n{silent.log}")
    after = client.send("work")
    diary.wait_until_all_ended([after])
    assert len(diary.starts(held)) == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_long_task_is_neither_cut_nor_run_twice(
    fleet: Fleet,
    client: Client,
    diary: Diary,
    prefix: str,
    tmp_path: Path,
    size_of: Callable[[str], Any],
    outlive: Callable[[float], None],
    pool: str,
) -> None:
    gate = tmp_path / "gate"
    busy = fleet.start(pool=pool, slots=1, heartbeat_s=1)
    held = client.send("hold", str(gate))
    wait_for(lambda: held in diary.ids("start"), "it runs")
    outlive(1)
    assert size_of(f"/queue/{prefix}work").in_flight == 1
    gate.touch()
    diary.wait_until_all_ended([held, client.send("work")])
    assert len(diary.starts(held)) == 1
    assert LOST not in busy.log


def test_a_frozen_broker_is_left_and_found_again(broker: Any, fleet: Fleet, client: Client, diary: Diary) -> None:
    worker = fleet.start(heartbeat_s=1)
    diary.wait_until_all_ended([client.send("work")])
    broker.freeze()
    wait_for(lambda: LOST in worker.log, lambda: f"the worker sees that the broker is silent\n{worker.log}")
    assert "has been silent for" in worker.log
    broker.thaw()
    diary.wait_until_all_ended([client.send("work") for _ in range(20)])


def test_a_publisher_to_a_frozen_broker_gets_an_error_and_loses_nothing_confirmed(broker: Any, prefix: str) -> None:
    name = f"{prefix}frozen"
    with kombu.Connection(broker.url, connect_timeout=30) as connection:
        producer = kombu.Producer(connection)
        producer.publish("confirmed", routing_key=name)
        broker.freeze()
        with pytest.raises(ConnectionLost):
            producer.publish("unconfirmed", routing_key=name, confirm_timeout=2)
        # Its port still takes connections; nobody answers there.
        with pytest.raises(ConnectionLost), kombu.Connection(broker.url, connect_timeout=1) as other:
            other.connect()
        broker.thaw()
        queue = kombu.Queue(name, routing_key=name)
        connection.ensure_connection()
        bodies: list[str] = []
        with kombu.Consumer(connection, [queue], callbacks=[lambda body, message: (bodies.append(body), message.ack())]):
            while "confirmed" not in bodies:
                connection.drain_events(timeout=60)
