"""One fault again and again under load, to a whole federation: nothing is lost, and nothing has its effect twice, as the database alone proves."""

import asyncio
import random
import time
from typing import Any

import pytest

from tests.integration.faults.load import Seat
from tests.integration.faults.proof import PAUSE_S, TIMES, Load, again_and_again, each
from tests.integration.faults.system import System
from tests.toll import Toll


@pytest.mark.fault("PostgreSQL SIGKILLed under load")
@pytest.mark.long
def test_database_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1), toll, dice, system.kill_database)


@pytest.mark.fault("ActiveMQ SIGKILLed under load, whole federation")
@pytest.mark.long
def test_broker_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1), toll, dice, system.kill_broker)


@pytest.mark.fault("node's worker SIGKILLed, whole federation")
@pytest.mark.long
def test_worker_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1), toll, dice, lambda: system.kill(dice.choice(system.nodes)))
    again = system.world.rows("SELECT count(*) FROM execution_deliveries WHERE number > 1 AND redelivered")[0][0]
    assert again >= 1, "no kill hit work"


@pytest.mark.fault("worker SIGSTOPped past its lease")
@pytest.mark.long
def test_worker_frozen_past_its_lease(system: System, toll: Toll, dice: random.Random) -> None:
    load = Load(system, steps=2, agents=1, seconds=0.5)
    again_and_again(system, load, toll, dice, lambda: system.freeze(dice.choice(system.nodes), 9), times=5)
    lost = system.world.rows("SELECT count(*) FROM events WHERE type = 'node.lost'")[0][0]
    assert lost >= 1, "no freeze was longer than the lease"


@pytest.mark.fault("front door SIGKILLed with calls waiting")
@pytest.mark.long
def test_door_killed_with_calls_waiting(system: System, toll: Toll, dice: random.Random) -> None:
    load = Load(system, steps=1, agents=2, seconds=0.3)
    asker = Seat(system.url, system.agent("asker"))
    waiting = [Seat(system.url, system.agent(f"waiting-{number}")) for number in range(8)]
    heard: list[list[str]] = [[] for _ in waiting]

    async def listen(seat: Seat, into: list[str]) -> None:
        cursor = None
        while "end" not in into:
            inbox = await seat.call("federation_inbox", wait_s=60, after=cursor)
            into += [message.content for message in inbox.messages]
            cursor = inbox.cursor

    async def ask() -> None:
        for number in range(TIMES):
            await asyncio.to_thread(time.sleep, dice.uniform(*PAUSE_S))
            toll.recovery_s.append(await asyncio.to_thread(system.recovery_s, lambda: system.kill("door")))
            await asker.call("federation_send", content=f"turn {number}", message_id=f"turn-{number}")
        await asker.call("federation_send", content="end", message_id="end")

    async def story() -> None:
        await asyncio.wait_for(asyncio.gather(ask(), *(listen(seat, into) for seat, into in zip(waiting, heard, strict=True))), 240)

    asyncio.run(story())
    load.proven(toll, times=TIMES)
    for into in heard:
        ours = [content for content in into if content.startswith(("turn", "end"))]
        assert ours == [*(f"turn {number}" for number in range(TIMES)), "end"], "who waits hears each message once"


@pytest.mark.fault("leading beat SIGKILLed")
@pytest.mark.long
def test_leading_beat_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    killed: list[str] = []

    def fault() -> None:
        killed.append(system.leading_beat())
        system.kill(killed[-1])

    again_and_again(system, Load(system, steps=2, agents=1), toll, dice, fault)
    assert set(killed) == {"beat-0", "beat-1"}


def any_times(system: System, toll: Toll, dice: random.Random, load: Load) -> Any:
    """Do random things to the system while there is work; prove that it held, and return what was done how often."""
    kinds: dict[str, int] = {}
    while load.running and not load.failures:
        name, fault = system.any_fault(dice)
        toll.recovery_s.append(system.recovery_s(fault))
        kinds[name] = kinds.get(name, 0) + 1
        time.sleep(dice.uniform(*PAUSE_S))
    toll.note = ", ".join(f"{name} {times} ×" for name, times in sorted(kinds.items()))
    load.proven(toll, times=sum(kinds.values()))
    return kinds


@pytest.mark.fault("random faults, ten minutes, 10,000 tasks")
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_soak_of_ten_minutes(system: System, toll: Toll, dice: random.Random) -> None:
    # 7,500 steps and 2,500 tasks of agents, at a pace that takes ten minutes where nothing is in the way.
    load = Load(system, steps=4, agents=2, seconds=0.02, every_s=0.3, most=7_500)
    kinds = any_times(system, toll, dice, load)
    assert len(kinds) >= 5


@pytest.mark.fault("each fault once, in any order")
@pytest.mark.timeout(600)
def test_soak_in_short(system: System, toll: Toll, dice: random.Random) -> None:
    load = Load(system, steps=2, agents=1, seconds=0.02, every_s=0.5)
    faults = system.faults(dice)
    order = dice.sample(sorted(faults), k=len(faults))
    toll.note = ", ".join(order)
    load.proven(toll, times=each(system, load, toll, dice, (faults[name] for name in order)))
