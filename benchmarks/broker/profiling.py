"""Where one row of `make bench-broker` spends its time: `python -m benchmarks.broker.profiling --help`; compares nothing.

Prints the rate, the CPU that client and broker took for each message, the broker's busiest threads, and the client's functions by cProfile, which
slows them: believe its order, and take times from the lines before. A row of consuming is filled before, which does not count.
"""

import cProfile
import pstats
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.broker.cells import CELLS
from benchmarks.broker.client import Bench
from benchmarks.processes import parse_stat, tree, usages
from benchmarks.running import running
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.peer import Start
from benchmarks.servers.redis import Fsync

SHOWN_THREADS, SHOWN_FUNCTIONS = 8, 30


class Server(StrEnum):
    """A broker that can be had."""

    OURS = "ours"
    RABBITMQ = "rabbitmq"
    REDIS = "redis"


STARTS: Mapping[Server, Start] = {Server.OURS: ours.starter(ours.NAME, ours.SCHEME), Server.RABBITMQ: rabbitmq.start}


@dataclass(frozen=True)
class Spent:
    """What some messages took; CPU in microseconds a message, that of the broker by thread too."""

    rate: float
    client_us: float
    broker_us: float
    threads_us: Mapping[str, float]


class Watched(Bench):
    """The benchmark's client, which keeps what its last measurement took."""

    def __init__(self, url: str, *, durable: bool, broker_pid: int) -> None:
        super().__init__(url, durable=durable)
        self._broker_pid = broker_pid
        self.spent: Spent | None = None
        self.profile: cProfile.Profile | None = None

    def rate(self, count: int, run: Callable[[], None]) -> float:
        """Run it, and return messages a second."""
        before, mine = thread_seconds(self._broker_pid), _own_seconds()
        if self.profile is None:
            rate = super().rate(count, run)
        else:
            # Only the last measurement of a cell counts.
            self.profile.clear()
            rate = super().rate(count, lambda: self.profile.runcall(run) if self.profile else run())
        mine = _own_seconds() - mine
        threads = {name: (seconds - before.get(name, 0.0)) / count * 1e6 for name, seconds in thread_seconds(self._broker_pid).items()}
        self.spent = Spent(rate, mine / count * 1e6, sum(threads.values()), threads)
        return rate


def thread_seconds(root: int) -> dict[str, float]:
    """Return the CPU seconds of a process and its children by the names of their threads, without the numbers in them."""
    found: dict[str, float] = {}
    for pid in tree(root, usages()):
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                name, usage = (task / "comm").read_text().strip(), parse_stat((task / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            name = name.rstrip("0123456789#-/: ")
            found[name] = found.get(name, 0.0) + usage.cpu_s
    return found


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def row(
    name: Annotated[str, typer.Argument(help="A row, such as publish_100_1: what, bytes of a body, queues.")],
    server: Annotated[Server, typer.Option(help="Whose.")] = Server.OURS,
    *,
    transient: Annotated[bool, typer.Option("--transient", help="Neither durable nor confirmed; Redis then in memory.")] = False,
    warm_up_s: Annotated[float, typer.Option("--warm-up", help="Seconds before it counts.")] = 20.0,
    seconds: Annotated[float, typer.Option(help="Seconds that count, and about as many under cProfile.")] = 10.0,
) -> None:
    """Profile one row."""
    cells = {cell.name: cell for cell in CELLS}
    if name not in cells:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(cells)}")
    start = STARTS.get(server) or redis.starter(Fsync.NO_FILE if transient else Fsync.ALWAYS)
    with running() as here, start(here) as peer:
        typer.echo(f"{name} at {peer.name}, broker's pid {peer.broker_pid}")
        bench = Watched(peer.broker_url, durable=not transient, broker_pid=peer.broker_pid)
        _repeat(warm_up_s, lambda: bench.measure(cells[name]))
        taken: list[Spent] = []

        def measure() -> None:
            bench.measure(cells[name])
            assert bench.spent is not None
            taken.append(bench.spent)

        _repeat(seconds, measure)
        bench.profile = cProfile.Profile()
        bench.measure(cells[name])
        _tell(taken)
        pstats.Stats(bench.profile).sort_stats("tottime").print_stats(SHOWN_FUNCTIONS)


def _repeat(seconds: float, run: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    run()
    while time.monotonic() < until:
        run()


def _tell(taken: list[Spent]) -> None:
    typer.echo(f"{statistics.median(one.rate for one in taken):,.0f} messages/s, median of {len(taken)}")
    # The kernel counts in hundredths of a second, so only the mean of many says something.
    client, broker = (statistics.fmean(values) for values in zip(*((one.client_us, one.broker_us) for one in taken), strict=True))
    typer.echo(f"CPU a message: client {client:.0f} µs, broker {broker:.0f} µs, of which")
    threads = {name: sum(one.threads_us.get(name, 0.0) for one in taken) / len(taken) for name in taken[-1].threads_us}
    for name in sorted(threads, key=lambda name: -threads[name])[:SHOWN_THREADS]:
        typer.echo(f"  {threads[name]:8.1f} µs  {name}")


if __name__ == "__main__":
    typer.run(row)
