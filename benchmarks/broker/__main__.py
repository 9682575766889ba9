"""The transport beside RabbitMQ (pyamqp) and Redis on this machine, in one run: `python -m benchmarks.broker --help`.

Two kinds of tables: durable messages with confirms on all sides, and the same with neither.
Exit code 0 when ours and at least one peer were measured, 1 otherwise.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.broker import cells
from benchmarks.broker.goals import show_goals
from benchmarks.readings import Reading
from benchmarks.rounds import MEASURES, CellFailed, Plan, Progress, Taken, measure, round_of, run_client, turns
from benchmarks.run import compare, tell_and_keep
from benchmarks.running import Running
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.peer import Peer, Start
from benchmarks.servers.redis import Fsync

OURS, RABBITMQ, REDIS = "activemq (ours)", "pyamqp", "redis"

NOTES = {
    "kombu": f"one client, one thread; prefetch {cells.PREFETCH}; JSON bodies; consume + ack: from the subscription to the last ack; raw socket: a "
    "loop without kombu on our broker",
    "Celery": "published: by one client while the worker is held; processed: from letting go until the last result is sent; results by rpc:// over "
    "the same broker, Redis in its own; ETA: ours waits in the broker, the others' in the worker",
    "memory": f"PSS of a process before and after {cells.CONNECTIONS} connections; a broker's own bookkeeping is in it, and may shrink meanwhile",
}

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Quick = Annotated[bool, typer.Option("--quick", help="Two rounds of little, to see that it works.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings, the summary and the settings to this file too.")]


def broker(*, rounds: Rounds = 10, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Measure, print tables, goals and settings, and write the JSON if asked."""
    console = Console()
    plan = Plan(2, 100, 30, 10, 3) if quick else Plan(rounds, 600, 100, 20, 6, warm_up=3000)
    outcome = compare(
        {OURS: _ours, RABBITMQ: _renamed(rabbitmq.start, RABBITMQ), REDIS: _renamed(redis.starter(Fsync.ALWAYS), REDIS)}
        | {f"{REDIS}, in memory": _renamed(redis.starter(Fsync.NO_FILE), REDIS)},
        lambda running, present, tell: _measure(running, present, plan, tell),
        console,
        ours=OURS,
        plan=asdict(plan),
        measures=(*cells.MEASURES, *MEASURES),
        notes=NOTES,
    )
    tell_and_keep(outcome, console, json_file)
    show_goals(outcome.readings, OURS, console)
    raise typer.Exit(0 if outcome.comparable else 1)


@contextmanager
def _ours(running: Running) -> Iterator[Peer]:
    with ours.start(running) as peer:
        yield replace(peer, name=OURS, result_backend="rpc://")


def _renamed(start: Start, name: str) -> Start:
    @contextmanager
    def renamed(running: Running) -> Iterator[Peer]:
        with start(running) as peer:
            yield replace(peer, name=name)

    return renamed


def _measure(running: Running, present: Sequence[Peer], plan: Plan, tell: Progress) -> Taken:
    durable = [peer for peer in present if peer.durable]
    # The same brokers once more, but for Redis, whose file does not ask what a message wants.
    passing = [peer if not peer.durable else replace(peer, durable=False) for peer in present if peer.name != REDIS or not peer.durable]
    taken = Taken()
    for peers, kind in ((durable, ", durable and confirmed"), (passing, ", neither durable nor confirmed")):
        if peers:
            _kombu(running, peers, "kombu" + kind, taken, rounds=plan.rounds, tell=tell)
            celery = measure(running, peers, plan, tell=tell, kind=kind)
            taken.readings += celery.readings
            taken.commits_ms += celery.commits_ms
            taken.failures |= celery.failures
    return taken


def _kombu(running: Running, peers: Sequence[Peer], table: str, taken: Taken, *, rounds: int, tell: Progress) -> None:
    for number in range(rounds + 1):
        for peer in turns(peers, number):
            if peer.name in taken.failures:
                continue
            tell(f"{table}, {round_of(number, rounds)}: {peer.name}")
            commit_ms = machine.commit_ms(running.folder)
            given = json.dumps({"url": peer.broker_url, "durable": peer.durable, "broker_pid": peer.broker_pid})
            try:
                told = run_client(["benchmarks.broker.client"], running.folder, given=given)
            except CellFailed as failure:
                taken.failures[peer.name] = f"{table}: {failure}"
                continue
            if number:
                taken.commits_ms.append(commit_ms)
                taken.readings += [Reading(table, name, peer.name, number, value) for name, value in told.items()]


if __name__ == "__main__":
    typer.run(broker)
