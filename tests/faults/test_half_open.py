"""The broker's host vanishes without a word: the sockets look healthy, and nothing passes."""

import random
import time
from typing import Any

import kombu
import pytest

from federation.broker.errors import ConnectionLost
from tests.faults.diary import Diary, some, wait_for
from tests.faults.fleet import Fleet
from tests.faults.proxy import proxy
from tests.faults.publishing import Client, Sender
from tests.faults.witness import read_all
from tests.toll import Toll


@pytest.mark.fault("transport: broker's host vanishes during sends")
def test_a_publisher_into_nothing_gets_an_error_and_what_was_confirmed_is_there(broker: Any, prefix: str, dice: random.Random, toll: Toll) -> None:
    bodies = [f"message {number}" for number in range(300)]
    with proxy(broker.host, broker.port) as way:
        counts = sorted(dice.sample(range(20, 280), 2))
        sender = Sender(way.url(broker.url), f"{prefix}halfopen", bodies, at=dict.fromkeys(counts, way.vanish), confirm_timeout=1)
        sender.start()
        for count in counts:
            wait_for(lambda count=count: len(sender.confirmed) >= count, f"{count} are confirmed")
            began = time.monotonic()
            wait_for(lambda: sender.published_again - set(sender.confirmed), "the sender is told that no confirmation came")
            way.come_back()
            wait_for(lambda: sender.published_again <= set(sender.confirmed) or sender.failure, "the sender sends again")
            toll.recovery_s.append(time.monotonic() - began)
        sender.join(60)
        assert sender.failure is None
        assert sender.confirmed == bodies
    found = {message.body for message in read_all(broker, f"/queue/{prefix}halfopen", bodies)}
    toll.happened(2, work=len(bodies), lost=len(set(bodies) - found))
    assert found == set(bodies), f"confirmed and lost: {some(set(bodies) - found)}"


@pytest.mark.parametrize("confirm_publish", [True, False])
def test_an_idle_publisher_learns_of_it_by_heartbeats(broker: Any, prefix: str, confirm_publish: bool) -> None:
    with (
        proxy(broker.host, broker.port) as way,
        kombu.Connection(way.url(broker.url), heartbeat=0.5, transport_options={"confirm_publish": confirm_publish}) as connection,
    ):
        kombu.Producer(connection).publish("one", routing_key=f"{prefix}idle")
        way.vanish()
        with pytest.raises(ConnectionLost, match="silent"):
            wait_for(connection.heartbeat_check, "the silence is noticed")


def test_a_worker_comes_back_from_a_half_open_socket(broker: Any, fleet: Fleet, client: Client, diary: Diary) -> None:
    with proxy(broker.host, broker.port) as way:
        worker = fleet.start(heartbeat_s=1, broker_url=way.url(broker.url))
        diary.wait_until_all_ended([client.send("work")])
        way.vanish()
        # To the broker this worker is still there, and gets these; the broker must find out too.
        lost = [client.send("work") for _ in range(10)]
        wait_for(lambda: "has been silent for" in worker.log, lambda: f"the worker sees that nothing comes\n{worker.log}")
        way.come_back()
        diary.wait_until_all_ended(lost)
        assert worker.alive
