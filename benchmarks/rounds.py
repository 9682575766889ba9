"""Interleaved rounds of a Celery project: each measures each peer once, one after the other, so that a slow minute of the machine falls on all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import machine, workload_settings
from benchmarks.processes import tree, usages
from benchmarks.readings import Measure, Reading
from benchmarks.running import Running
from benchmarks.servers.peer import Peer
from federation.local import children
from federation.local.parts import Part, tail

_CELL_WITHIN_S = 150.0

MEASURES = (
    Measure("processed_per_s", "no-op processed /s", True),
    Measure("published_per_s", "published /s", True),
    Measure("p50_ms", ".delay().get() p50 ms", False, 2),
    Measure("p99_ms", ".delay().get() p99 ms", False, 2),
    Measure("eta_late_p50_ms", "ETA: later than asked, p50 ms", False, 1),
    Measure("eta_late_p99_ms", "ETA: later than asked, p99 ms", False, 1),
    Measure("known_after_ms", "result known after the end of a task of 50 ms, p50 ms", False, 2),
    Measure("hand_over_ms", "chord: last part to body, ms", False, 1),
    Measure("idle_worker_percent", "idle worker, % of a core", False, 2),
    Measure("idle_broker_percent", "idle broker, % of a core", False, 2),
)


@dataclass(frozen=True)
class Pool:
    """A worker's pool and how many tasks it runs at once."""

    name: str
    slots: int

    @property
    def title(self) -> str:
        """What stands above its table."""
        return f"{self.name}, {self.slots} at once"


POOLS = (Pool("prefork", 2), Pool("threads", 4))


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, tasks of a backlog, calls that wait for their result, tasks with an ETA, seconds of idling a round,
    parts of a chord's header, tasks that take a while.

    With each pool every peer first runs `warm_up` tasks that do not count: a server runs for months, and Java compiles what it runs often.
    """

    rounds: int
    tasks: int
    calls: int
    etas: int = 0
    idle_s: float = 0.0
    warm_up: int = 0
    parts: int = 0
    naps: int = 0


@dataclass
class Taken:
    """What the rounds gave: readings, what the disk took for a durable write before each, and why a peer dropped out if one did."""

    readings: list[Reading] = field(default_factory=list)
    commits_ms: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def without_failed(self) -> "Taken":
        """The same without the readings of peers that dropped out."""
        return Taken([reading for reading in self.readings if reading.peer not in self.failures], self.commits_ms, self.failures)


@dataclass(frozen=True)
class _Worker:
    """A worker that was started for a peer."""

    folder: Path
    pid: int


class CellFailed(Exception):
    """A peer could not be measured; says why."""


Progress = Callable[[str], None]


def measure(running: Running, peers: Sequence[Peer], plan: Plan, *, tell: Progress, kind: str = "", pools: Sequence[Pool] = POOLS) -> Taken:
    """Measure all peers with each pool; `kind` is put behind the title of each table."""
    taken = Taken()
    for pool in pools:
        present = [peer for peer in peers if peer.name not in taken.failures]
        if not present:
            break
        with _workers(running, present, pool) as workers:
            for number in range(plan.rounds + 1):
                # Round 0 warms up and does not count.
                now = plan if number else replace(plan, tasks=max(plan.tasks, plan.warm_up))
                for peer in turns(present, number):
                    if peer.name in taken.failures:
                        continue
                    tell(f"{pool.title}{kind}, {round_of(number, plan.rounds)}: {peer.name}")
                    commit_ms = machine.commit_ms(running.folder)
                    try:
                        told = _measured(running, workers[peer.name].folder, pool=pool, plan=now)
                    except CellFailed as failure:
                        taken.failures[peer.name] = f"{pool.name}: {failure}"
                        continue
                    if number:
                        taken.commits_ms.append(commit_ms)
                        taken.readings += [Reading(pool.title + kind, name, peer.name, number, value) for name, value in told.items()]
                if plan.idle_s and number:
                    tell(f"{pool.title}{kind}, {round_of(number, plan.rounds)}: all idle for {plan.idle_s:g} s")
                    taken.readings += _idle(present, workers, pool.title + kind, number=number, seconds=plan.idle_s)
    return taken.without_failed()


def measure_client(
    running: Running,
    peers: Sequence[Peer],
    module: str,
    about: Callable[[Peer], Mapping[str, Any]],
    taken: Taken,
    *,
    table: str,
    rounds: int,
    tell: Progress,
    warm_up: int = 1,
) -> None:
    """Add what a client without a worker measures of each peer, of which it is given what `about` says; `warm_up` rounds do not count."""
    for number in (*[0] * warm_up, *range(1, rounds + 1)):
        for peer in turns(peers, number):
            if peer.name in taken.failures:
                continue
            tell(f"{table}, {round_of(number, rounds)}: {peer.name}")
            commit_ms = machine.commit_ms(running.folder)
            try:
                told = run_client(module, running.folder, about(peer))
            except CellFailed as failure:
                taken.failures[peer.name] = f"{table}: {failure}"
                continue
            if number:
                taken.commits_ms.append(commit_ms)
                taken.readings += [Reading(table, name, peer.name, number, value) for name, value in told.items()]


def turns(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Return the peers in the order of a round: it moves on each time, so that none is always the first."""
    first = number % len(peers)
    return [*peers[first:], *peers[:first]]


def round_of(number: int, rounds: int) -> str:
    """Say which round it is."""
    return f"round {number} of {rounds}" if number else "warming up"


def run_client(module: str, folder: Path, given: Mapping[str, Any], *, within_s: float = _CELL_WITHIN_S) -> dict[str, float]:
    """Run a client in a process of its own and return the figures that it printed. Raises CellFailed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=folder,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
            preexec_fn=children.die_with_parent(),
        )
    except subprocess.TimeoutExpired as error:
        raise CellFailed(f"not measured within {within_s:g} s") from error
    if done.returncode:
        raise CellFailed(done.stderr.strip().rpartition("\n")[2])
    told: dict[str, float] = json.loads(done.stdout)
    return told


@contextmanager
def _workers(running: Running, peers: Sequence[Peer], pool: Pool) -> Iterator[Mapping[str, _Worker]]:
    with ExitStack() as stack:
        workers = {}
        for number, peer in enumerate(peers):
            name = f"worker-{number}-{pool.name}"
            folder = running.folder_of(name)
            workload_settings.write(folder, broker_url=peer.broker_url, result_backend=peer.result_backend, durable=peer.durable)
            workers[peer.name] = _Worker(folder, stack.enter_context(running.part(_worker(name, folder, pool))))
        yield workers


def _worker(name: str, folder: Path, pool: Pool) -> Part:
    return Part(
        name=name,
        command=[
            *(sys.executable, "-m", "celery", "-A", "benchmarks.workload", "worker", "-Q", pool.name, "-P", pool.name, "-c", str(pool.slots)),
            *("-n", f"{name}@localhost", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"),
        ],
        cwd=folder,
        # Nothing of it is kept, and a soft end takes up to nine seconds with some peers.
        stop_signal=signal.SIGKILL,
    )


def _measured(running: Running, folder: Path, *, pool: Pool, plan: Plan) -> dict[str, float]:
    try:
        amounts = {name: getattr(plan, name) for name in ("tasks", "calls", "etas", "parts", "naps")}
        return run_client("benchmarks.client", folder, {"queue": pool.name, "slots": pool.slots, **amounts})
    except CellFailed as failure:
        log = tail(running.log_of(folder.name)) or "(empty)"
        raise CellFailed(f"{failure}; the end of its worker's log:\n{log}") from failure


def _idle(peers: Sequence[Peer], workers: Mapping[str, _Worker], table: str, *, number: int, seconds: float) -> list[Reading]:
    # All of them in the same seconds, because none is asked anything.
    before, began = usages(), time.monotonic()
    time.sleep(seconds)
    after, took_s = usages(), time.monotonic() - began
    found = []
    for peer in peers:
        for name, root in (("idle_worker_percent", workers[peer.name].pid), ("idle_broker_percent", peer.broker_pid)):
            spent_s = sum(after[pid].cpu_s - before[pid].cpu_s for pid in tree(root, after) if pid in before)
            found.append(Reading(table, name, peer.name, number, spent_s / took_s * 100))
    return found
