"""A whole federation of real processes: three nodes, two beats and a front door, each of which may be killed, frozen and started again."""

import json
import random
import signal
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import psycopg

from federation.delivery.leadership import LOCK
from federation.delivery.sealing import key_file
from federation.local.ports import free_port
from federation.security.signing import PublicKey, load_public, public_file
from federation.services import agents, conversations
from tests import forks
from tests.forks import Started
from tests.integration.world import World

BEATS, PLACES = 2, 4
# Nobody summarises here: that wants a model.
QUIET = {"FEDERATION_SUMMARY_WINDOW": "1000000", "FEDERATION_SEAL_S": "2", "FEDERATION_MESSAGES_PER_MINUTE": "0"}
LONGEST_S = 240.0

# What is under way: work that has begun to be wanted and has not ended.
_UNDER_WAY = """
    SELECT 'execution ' || e.id FROM executions e LEFT JOIN celery_results r ON r.task_id = e.id::text
    WHERE e.outcome IS NULL AND e.cancelled_at IS NULL AND (r.state IS NULL OR r.state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')) {of_these}
    UNION ALL SELECT 'task ' || id FROM agent_tasks e WHERE status NOT IN ('completed', 'failed', 'cancelled') {of_these}
"""
_ALL, _OF_THESE = _UNDER_WAY.format(of_these=""), _UNDER_WAY.format(of_these="AND e.id = ANY(%(ids)s)")

# The steps that a worker has begun and not said.
_IN_HAND = """
    SELECT e.id, (e.kwargs->>'number')::int FROM executions e JOIN execution_deliveries d ON d.execution_id = e.id
    WHERE e.task_name = 'tests.step' AND d.worker LIKE %s AND d.number = 1
        AND NOT EXISTS (SELECT FROM execution_effects f WHERE f.execution_id = e.id)
"""


class System:
    """The parts by their names, and what may be done to them."""

    def __init__(self, world: World, postgres: Any, activemq: Any) -> None:
        self.world, self.postgres, self.activemq = world, postgres, activemq
        self.parts: dict[str, Started] = {}
        # Where their logs are, for the report of a test that fails.
        self.folder = world.folder
        self._environment: dict[str, Mapping[str, str]] = {}
        # Further words for the commands of workers.
        self.flags: Sequence[str] = ()
        self.nodes: list[str] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        with world.transactions.begin("test:hands") as session:
            agents.add(session, "ada", "lead")
        with world.transactions.begin("ada") as session:
            conversations.open_for(session, "steps", [])

    def start(self) -> None:
        """Start all parts, and wait until they answer."""
        for name, role in (("lead", "lead"), ("developer", "developer"), ("analyst", "analyst")):
            self.nodes.append(self.world.node(name, role=role, tags=["steps"], pool="threads", concurrency=PLACES))
        for node in self.nodes:
            self.start_part(node)
        for number in range(BEATS):
            self.start_part(f"beat-{number}")
        self.start_part("door")
        for node in self.nodes:
            self.world.until(lambda node=node: self.world.alive(node, self.parts[node].pid), f"{node} announces itself")
        self.world.until(self.door_answers, "the door answers")

    def start_part(self, name: str, **environment: str) -> None:
        """Start a part anew, without waiting; what is set for it once stays set."""
        given = self._environment[name] = {**self._environment.get(name, {}), **environment}
        if name == "door":
            log = (self.world.folder / "door.log").open("ab")
            surroundings = {"FEDERATION_MCP_PORT": str(self.port), "FEDERATION_BROKER_URL": self.activemq.url_of("door"), **QUIET}
            environment = self.world.environment(**surroundings)
            self.parts[name] = forks.start("federation.cli.main", "serve", cwd=self.world.folder, env=environment, stdout=log)
            self.world.processes.append(self.parts[name])
        elif name.startswith("beat"):
            self.parts[name] = self.world.celery("beat", name=name, **QUIET, **given)
        else:
            self.parts[name] = self.world.worker(name, *self.flags, wait=False, **QUIET, **given)

    def kill(self, name: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End a part as a power cut would, and start it again, after what is to happen meanwhile."""
        self.parts[name].kill()
        self.parts[name].wait()
        meanwhile()
        self.start_part(name)
        if name == "door":
            # One that finds no database when it starts ends, and here nobody would start it again.
            self.world.until(self.door_answers, "the front door answers")

    def kill_database(self) -> None:
        """End PostgreSQL with all its processes, and start it again."""
        self.postgres.kill()
        self.postgres.start()

    def kill_broker(self) -> None:
        """End ActiveMQ, and start it again."""
        self.activemq.kill()
        self.activemq.start()

    def freeze(self, name: str, seconds: float) -> None:
        """Let a part stand still, longer than its node is taken for alive."""
        self.parts[name].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.parts[name].send_signal(signal.SIGCONT)

    def freeze_until_replaced(self, name: str) -> dict[uuid.UUID, int]:
        """Let a node stand still with steps in hand until it counts as lost and others have done these; return them with their numbers."""
        alive = "SELECT FROM nodes WHERE name = %s AND left_at IS NULL AND lost_at IS NULL"
        self.world.until(lambda: self.world.rows(alive, name), f"{name} lives")
        since, process = self.times_lost(name), self.parts[name]
        # Between two transactions: one that it held open would keep what it has locked, and others could not take over.
        held = self.world.until(lambda: self._freeze_with_work(name), f"{name} stands still with work in hand")
        try:
            self.world.until(lambda: self.times_lost(name) > since, f"{name} counts as lost")
            self.world.until(lambda: not self._unsaid(held), f"others do what {name} had in hand")
        finally:
            process.send_signal(signal.SIGCONT)
        return held

    def times_lost(self, name: str) -> int:
        """How often a node has been found lost."""
        found: int = self.world.rows("SELECT count(*) FROM events WHERE type = 'node.lost' AND stream = %s", f"node:{name}")[0][0]
        return found

    def _freeze_with_work(self, name: str) -> dict[uuid.UUID, int]:
        process = self.parts[name]
        # Where it was let go at once, it works for a while before the next try.
        time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)
        ports = [connection.laddr.port for connection in psutil.Process(process.pid).net_connections("tcp")]
        # What it asked before it stood still has its answer soon.
        time.sleep(0.2)
        open_ones = self.world.rows("SELECT FROM pg_stat_activity WHERE client_port = ANY(%s) AND xact_start IS NOT NULL", ports)
        held = {} if open_ones else dict(self.world.rows(_IN_HAND, f"{name}@%"))
        if not held:
            process.send_signal(signal.SIGCONT)
        return held

    def _unsaid(self, held: Mapping[uuid.UUID, int]) -> bool:
        said = "SELECT count(*) FROM execution_effects WHERE execution_id = ANY(%s)"
        return bool(self.world.rows(said, list(held))[0][0] < len(held))

    def stop(self, name: str) -> None:
        """End a part in good order, and start it again."""
        self.world.stop(self.parts[name])
        self.start_part(name)

    def leading_beat(self) -> str:
        """Wait until a beat acts, and return its name: who acts holds a lock over a connection of its own."""
        lock = """
            SELECT client_port FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid = %s
        """

        def leader() -> str | None:
            ports = {row[0] for row in self.world.rows(lock, LOCK)}
            for name, process in self.parts.items():
                if name.startswith("beat") and process.poll() is None:
                    mine = {connection.laddr.port for connection in psutil.Process(process.pid).net_connections("tcp")}
                    if ports & mine:
                        return name
            return None

        return self.world.until(leader, "a beat leads")

    def door_answers(self) -> bool:
        """Whether the front door is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def agent(self, name: str) -> str:
        """Add an agent; return its token."""
        words = ("agent", "add", name, "--role", "developer", "--json")
        done = forks.run("federation.cli.main", *words, cwd=self.world.folder, env=self.world.environment(), text="", timeout_s=LONGEST_S)
        token: str = json.loads(done.stdout)["token"]
        return token

    def pair(self, one: str, other: str) -> tuple[str, str]:
        """Add two agents that speak to no door; return their names."""
        with self.world.transactions.begin("test:hands") as session:
            for name in (one, other):
                agents.add(session, name, "developer")
        return one, other

    def under_way(self) -> set[str]:
        """What has begun and not ended, as the database has it."""
        return {row[0] for row in self.world.rows(_ALL)}

    def _still(self, before: set[str]) -> set[str]:
        """Which of these have not ended; asked by their ids, so that asking is no load, however much has been done."""
        ids = [uuid.UUID(what.split()[1]) for what in before]
        with psycopg.connect(self.world.owner_url) as connection:
            return {row[0] for row in connection.execute(_OF_THESE, {"ids": ids})}

    def recovery_s(self, fault: Callable[[], object]) -> float:
        """Do this to the system; return the seconds until all that was under way before it has ended."""
        before = self.under_way()
        began = time.monotonic()
        fault()
        while before:
            with suppress(psycopg.OperationalError):
                before &= self._still(before)
            if time.monotonic() - began > LONGEST_S:
                raise AssertionError(f"after {LONGEST_S:g} s these are still under way: {sorted(before)[:5]}; {self.story(sorted(before)[0])}")
            time.sleep(0.1)
        return time.monotonic() - began

    def story(self, what: str) -> str:
        """Return what the log tells of an execution or a task."""
        kind, identity = what.split()
        told = self.world.rows("SELECT created_at, type, actor, payload FROM events WHERE stream = %s ORDER BY position", f"{kind}:{identity}")
        return "\n".join(map(str, told))

    def settle(self) -> None:
        """Wait until nothing is under way or to be sent, perhaps again, and all events have their numbers."""
        self.world.until(lambda: not self.under_way(), "all that was wanted has ended", within_s=LONGEST_S)
        self.world.until(lambda: not self.world.rows("SELECT FROM outbox"), "the outbox is empty")
        # Also the second copies of what has ended already.
        self.world.until(lambda: all(map(self._is_empty, self.nodes)), "the queues are empty")
        unnumbered = "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM event_order o WHERE o.sequence = e.sequence)"
        self.world.until(lambda: self.world.rows(unnumbered) == [(0,)], "all events have their numbers")

    def seal_key(self) -> PublicKey:
        """Wait for the first seal, and return the key that it can be verified with."""
        path = public_file(key_file(self.world.folder / "seals"))
        self.world.until(path.exists, "beat seals")
        return load_public(path)

    def _is_empty(self, node: str) -> bool:
        size = self.world.size(self.world.destination(node))
        return size is None or size.waiting + size.in_flight == 0

    def faults(self, dice: random.Random) -> dict[str, Callable[[], object]]:
        """Return each fault under its name, with a node of chance."""
        node = dice.choice(self.nodes)
        return {
            "PostgreSQL killed": self.kill_database,
            "ActiveMQ killed": self.kill_broker,
            "worker killed": lambda: self.kill(node),
            "worker frozen past its lease": lambda: self.freeze(node, 8),
            "worker stopped in good order": lambda: self.stop(node),
            "leading beat killed": lambda: self.kill(self.leading_beat()),
            "front door killed": lambda: self.kill("door"),
        }

    def any_fault(self, dice: random.Random) -> tuple[str, Callable[[], object]]:
        """Return one of the faults, and its name; workers are killed twice as often as anything else."""
        found = list(self.faults(dice).items())
        return dice.choice([*found, *(each for each in found if each[0] == "worker killed")])


@contextmanager
def running_system(world: World, postgres: Any, activemq: Any) -> Iterator[System]:
    """Run a federation until the block ends."""
    system = System(world, postgres, activemq)
    system.start()
    yield system
