"""Work under faults, and the proof that none was lost and none had its effect twice."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from itertools import repeat

from federation.transaction import reading
from tests.integration.faults.ledger import log_flaws, prove
from tests.integration.faults.load import Agents, Rivals, Steps, Worker, numbers_until
from tests.integration.faults.system import System
from tests.toll import Toll

TIMES = 10
# Between two faults, so that they hit work at all moments of its way.
PAUSE_S = (0.5, 2.0)
# The parts start beside each other, and calls over MCP wait for one another: on a busy machine 53 s were seen where the parts had started in 14.
BEGUN_WITHIN_S = 200.0


class Load:
    """Work that goes on until it is told to end, then is proven."""

    def __init__(
        self,
        system: System,
        *,
        steps: int = 1,
        agents: int = 0,
        rivals: int = 0,
        seconds: float = 0.1,
        every_s: float = 0.1,
        most_tasks: int = 10**9,
    ) -> None:
        self.system, self._over, self.began = system, threading.Event(), time.monotonic()
        # Of one sort of work, whoever is free takes the next.
        numbers = [numbers_until(10**9, self._over.is_set), numbers_until(most_tasks, self._over.is_set)]
        self.workers: list[Worker] = [Steps(system.world.transactions, numbers[0], seconds=seconds, every_s=every_s) for _ in range(steps)]
        for pair in range(agents):
            tokens = system.agent(f"agent-{pair}"), system.agent(f"rival-{pair}")
            self.workers.append(Agents(system.url, tokens, numbers[1], every_s=every_s))
        for pair in range(rivals):
            names = system.pair(f"door-agent-{pair}", f"door-rival-{pair}")
            self.workers.append(Rivals(system.world.app, system.world.transactions, names, numbers[1]))
        for worker in self.workers:
            worker.start()
        system.world.until(lambda: all(len(worker.told) > 2 for worker in self.workers) or self.failures, self._late, within_s=BEGUN_WITHIN_S)

    def _late(self) -> str:
        return "\n".join(["each has done three pieces of work", *(worker.standing() for worker in self.workers)])

    @property
    def failures(self) -> list[BaseException]:
        """Why workers have given up, of those that have."""
        return [worker.failure for worker in self.workers if worker.failure]

    @property
    def tasks_left(self) -> bool:
        """Whether agents have tasks left to do."""
        return any(worker.is_alive() for worker in self.workers if isinstance(worker, Agents | Rivals))

    def proven(self, toll: Toll, *, times: int) -> None:
        """End the work, wait for its end, and prove from the database what became of it."""
        self._over.set()
        for worker in self.workers:
            worker.join(180)
            if worker.failure:
                raise worker.failure
            assert not worker.is_alive(), f"{worker.name} does not come to its end"
        self.system.settle()
        ledger = prove(self.system.world.owner_url)
        told = sum(len(worker.told) for worker in self.workers)
        steps = self.system.world.rows("SELECT count(*) FROM executions WHERE task_name = 'tests.step'")[0][0]
        tasks = self.system.world.rows("SELECT count(*) FROM agent_tasks")[0][0]
        known = steps + tasks
        # What a caller was told to be recorded is there; what was recorded without a word to its caller may be more.
        toll.happened(times, work=known, lost=ledger.lost + max(told - known, 0), doubled=ledger.doubled)
        redelivered = self.system.world.rows("SELECT count(*) FROM execution_deliveries WHERE number > 1")[0][0]
        over_mcp = sum(len(worker.told) for worker in self.workers if isinstance(worker, Agents))
        work = f"{tasks} tasks, {over_mcp} of them over MCP, and {steps} steps"
        toll.note = "; ".join(filter(None, (toll.note, work, f"{redelivered} deliveries were not the first")))
        # Of one moment: events that came while it is read would not be in the tables, or the other way round.
        with reading(self.system.world.transactions.service) as session:
            flaws = [*ledger.flaws, *log_flaws(session, self.system.seal_key())]
        assert flaws == [], "\n".join(flaws)
        assert told <= known, f"{told - known} of {told} were told to be recorded and are not there"


def each(system: System, load: Load, toll: Toll, dice: random.Random, faults: Iterable[Callable[[], object]]) -> int:
    """Do one of these to the system after the other while it works; return how many they were."""
    done = 0
    for fault in faults:
        time.sleep(dice.uniform(*PAUSE_S))
        toll.recovery_s.append(system.recovery_s(fault))
        assert not load.failures, load.failures
        done += 1
    return done


def again_and_again(system: System, load: Load, toll: Toll, dice: random.Random, fault: Callable[[], object], *, times: int = TIMES) -> None:
    """Do this to the system so many times, and prove that it held."""
    load.proven(toll, times=each(system, load, toll, dice, repeat(fault, times)))
