"""One fault again and again under load, to a whole federation: nothing is lost, and nothing has its effect twice, as the database alone proves."""

import asyncio
import random
import time
import uuid

import pytest

from tests.integration.faults.load import Seat
from tests.integration.faults.proof import PAUSE_S, TIMES, Load, again_and_again, each
from tests.integration.faults.system import System
from tests.toll import Toll

FREEZES, HEARTBEAT_S = 5, 2
# Of the soak: so many tasks are to be delegated, claimed and completed, by so many pairs of agents at once: over MCP, and in a door's transactions.
TASKS, OVER_MCP, IN_PROCESS = 10_000, 2, 6
# Of the seconds between two faults: a recovery is some seconds itself, and this is to be work under faults and not faults alone.
SOAK_PAUSE_S = (2.0, 6.0)
# It lasts so long at least; at most so long are new tasks begun.
LEAST_S, MOST_S = 600, 2400


@pytest.mark.fault("PostgreSQL SIGKILLed under load")
@pytest.mark.long
def test_database_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1, rivals=1), toll, dice, system.kill_database)


@pytest.mark.fault("ActiveMQ SIGKILLed under load, whole federation")
@pytest.mark.long
def test_broker_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1, rivals=1), toll, dice, system.kill_broker)


@pytest.mark.fault("node's worker SIGKILLed, whole federation")
@pytest.mark.long
def test_worker_killed_ten_times(system: System, toll: Toll, dice: random.Random) -> None:
    again_and_again(system, Load(system, steps=2, agents=1, rivals=1), toll, dice, lambda: system.kill(dice.choice(system.nodes)))
    again = system.world.rows("SELECT count(*) FROM execution_deliveries WHERE number > 1 AND redelivered")[0][0]
    assert again >= 1, "no kill hit work"


@pytest.mark.fault("worker SIGSTOPped past its lease")
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_worker_frozen_past_its_lease(system: System, toll: Toll, dice: random.Random) -> None:
    # The broker cuts who is silent for two to three heart-beats; with Celery's own of two minutes the frozen worker would keep what it holds.
    system.flags = ("--", f"broker.heartbeat={HEARTBEAT_S}")
    for node in system.nodes:
        system.stop(node)
        system.world.until(lambda node=node: system.world.alive(node, system.parts[node].pid), f"{node} announces itself")
    # Most of its time a step is outside any transaction.
    load = Load(system, steps=2, agents=1, seconds=2, every_s=0.5)
    frozen: list[tuple[str, dict[uuid.UUID, int]]] = []

    def fault() -> None:
        node = dice.choice(system.nodes)
        frozen.append((node, system.freeze_until_replaced(node)))

    again_and_again(system, load, toll, dice, fault, times=FREEZES)
    assert sum(map(system.times_lost, system.nodes)) >= FREEZES
    deliveries = "SELECT count(DISTINCT worker) FROM execution_deliveries WHERE execution_id = %s"
    effects = "SELECT actor FROM events WHERE type = 'execution.effect_recorded' AND stream = %s"
    for node, held in frozen:
        for identity, number in held.items():
            assert system.world.rows(deliveries, identity)[0][0] >= 2, "nobody else was given what the frozen worker held"
            [[actor]] = system.world.rows(effects, f"execution:{identity}")
            assert actor != f"node:{node}"
            # It went on with it when it was let go, and was told that it came too late.
            refused = f"step {number} has been said already"
            system.world.until(lambda node=node, refused=refused: refused in system.world.log(node), f"{node} goes on with step {number}")
    toll.note += f"; {sum(len(held) for _, held in frozen)} steps in the hands of frozen workers were done by others, and refused to them"


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
        # One that is back at once may lead again before the other has looked.
        system.kill(killed[-1], lambda: system.world.until(lambda: system.leading_beat() != killed[-1], "the other one leads"))

    again_and_again(system, Load(system, steps=2, agents=1), toll, dice, fault)
    assert set(killed) == {"beat-0", "beat-1"}


def any_times(system: System, toll: Toll, dice: random.Random, load: Load, *, least_s: float, most_s: float) -> dict[str, int]:
    """Do random things to the system until all tasks are done, within these seconds; prove that it held, and return what was done how often."""
    kinds: dict[str, int] = {}
    while not load.failures and time.monotonic() < load.began + (most_s if load.tasks_left else least_s):
        name, fault = system.any_fault(dice)
        toll.recovery_s.append(system.recovery_s(fault))
        kinds[name] = kinds.get(name, 0) + 1
        time.sleep(dice.uniform(*SOAK_PAUSE_S))
    toll.note = ", ".join(f"{name} {times} ×" for name, times in sorted(kinds.items()))
    toll.lasted_s = round(time.monotonic() - load.began, 1)
    load.proven(toll, times=sum(kinds.values()))
    return kinds


@pytest.mark.fault("random faults for ten minutes or more, 10,000 tasks, and steps")
@pytest.mark.long
@pytest.mark.timeout(4200)
def test_soak_of_ten_minutes(system: System, toll: Toll, dice: random.Random) -> None:
    # Steps beside them, because each has an effect that would be seen twice.
    load = Load(system, steps=1, agents=OVER_MCP, rivals=IN_PROCESS, seconds=0.02, every_s=1.0, most_tasks=TASKS)
    kinds = any_times(system, toll, dice, load, least_s=LEAST_S, most_s=MOST_S)
    assert len(kinds) >= 5
    assert toll.lasted_s is not None
    assert toll.lasted_s >= LEAST_S
    completed, known = system.world.rows("SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FROM agent_tasks")[0]
    assert completed == known
    toll.in_time = completed == TASKS
    assert all(worker.told for worker in load.workers)


@pytest.mark.fault("each fault once, in any order")
@pytest.mark.timeout(600)
def test_soak_in_short(system: System, toll: Toll, dice: random.Random) -> None:
    load = Load(system, steps=2, agents=1, rivals=1, seconds=0.02, every_s=0.5)
    faults = system.faults(dice)
    order = dice.sample(sorted(faults), k=len(faults))
    toll.note = ", ".join(order)
    load.proven(toll, times=each(system, load, toll, dice, (faults[name] for name in order)))
