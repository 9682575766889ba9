"""Interleaved rounds: each round measures each peer once, one after the other, so that a slow minute of the machine falls on all."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, workload_settings
from benchmarks.intervals import percentile
from benchmarks.measured import Measured
from benchmarks.running import Running
from benchmarks.servers.peer import Peer
from federation.local import children
from federation.local.parts import Part, tail

_CELL_WITHIN_S = 150.0


@dataclass(frozen=True)
class Pool:
    """A worker's pool and how many tasks it runs at once."""

    name: str
    slots: int


POOLS = (Pool("prefork", 2), Pool("threads", 4))


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, tasks of a backlog, calls that wait for their result."""

    rounds: int
    tasks: int
    calls: int


@dataclass(frozen=True)
class Sample:
    """One peer in one round; `commit_ms` is what the disk took for a durable write just before."""

    pool: str
    round: int
    peer: str
    processed_per_s: float
    published_per_s: float
    p50_ms: float
    p99_ms: float
    commit_ms: float


class CellFailed(Exception):
    """A peer could not be measured; says why."""


Progress = Callable[[str], None]


def measure(running: Running, peers: Sequence[Peer], plan: Plan, *, tell: Progress) -> tuple[list[Sample], dict[str, str]]:
    """Measure all peers with both pools; return the samples, and why a peer dropped out if one did."""
    samples: list[Sample] = []
    failures: dict[str, str] = {}
    for pool in POOLS:
        present = [peer for peer in peers if peer.name not in failures]
        if not present:
            break
        with _workers(running, present, pool) as folders:
            for number in range(plan.rounds + 1):
                # Round 0 warms up and does not count. The order moves on each time: none is always the first.
                for peer in present[number % len(present) :] + present[: number % len(present)]:
                    if peer.name in failures:
                        continue
                    tell(f"{pool.name} {pool.slots}, " + (f"round {number} of {plan.rounds}" if number else "warming up") + f": {peer.name}")
                    try:
                        sample = _sample(running, folders[peer.name], peer=peer, pool=pool, number=number, plan=plan)
                    except CellFailed as failure:
                        failures[peer.name] = f"{pool.name}: {failure}"
                        continue
                    if number:
                        samples.append(sample)
    return [sample for sample in samples if sample.peer not in failures], failures


@contextmanager
def _workers(running: Running, peers: Sequence[Peer], pool: Pool) -> Iterator[Mapping[str, Path]]:
    with ExitStack() as stack:
        folders = {}
        for number, peer in enumerate(peers):
            name = f"worker-{number}-{pool.name}"
            folders[peer.name] = folder = running.folder_of(name)
            workload_settings.write(folder, broker_url=peer.broker_url, result_backend=peer.result_backend)
            stack.enter_context(running.part(_worker(name, folder, pool)))
        yield folders


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


def _sample(running: Running, folder: Path, *, peer: Peer, pool: Pool, number: int, plan: Plan) -> Sample:
    commit_ms = machine.commit_ms(running.folder)
    command = [sys.executable, "-m", "benchmarks.client", pool.name, str(pool.slots), str(plan.tasks), str(plan.calls)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_CELL_WITHIN_S, preexec_fn=children.die_with_parent()
        )
    except subprocess.TimeoutExpired as error:
        raise CellFailed(f"not measured within {_CELL_WITHIN_S:g} s; {_log(running, folder)}") from error
    if done.returncode:
        raise CellFailed(f"{done.stderr.strip().rpartition(chr(10))[2]}; {_log(running, folder)}")
    measured = Measured(**json.loads(done.stdout))
    return Sample(
        pool=pool.name,
        round=number,
        peer=peer.name,
        processed_per_s=measured.processed_per_s,
        published_per_s=measured.published_per_s,
        p50_ms=percentile(measured.latencies_ms, 50),
        p99_ms=percentile(measured.latencies_ms, 99),
        commit_ms=commit_ms,
    )


def _log(running: Running, folder: Path) -> str:
    return f"the end of its worker's log:\n{tail(running.log_of(folder.name)) or '(empty)'}"
