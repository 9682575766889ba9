"""The transport beside RabbitMQ (pyamqp) and Redis on this machine, in one run: `python -m benchmarks.broker --help`.

Two kinds of tables: durable messages with confirms on all sides, and the same with neither.
Exit code 0 when ours and at least one peer were measured, 1 otherwise.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.broker import cells
from benchmarks.broker.goals import judged
from benchmarks.rounds import MEASURES, Plan, Progress, Taken, measure, measure_client
from benchmarks.run import compare, tell_and_keep
from benchmarks.running import Running
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.peer import Peer, changed
from benchmarks.servers.redis import Fsync

WARM_UP_ROUNDS = 3
OURS, RABBITMQ, REDIS = "activemq (ours)", "pyamqp", "redis"

# Without its results in PostgreSQL: here they go the way that RabbitMQ's go.
DURABILITY = "persistent messages with receipts, ActiveMQ syncs its journal before each receipt; results are transient messages to the caller"

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
        {OURS: changed(ours.starter(ours.NAME, ours.SCHEME), name=OURS, result_backend="rpc://", durability=DURABILITY)}
        | {RABBITMQ: changed(rabbitmq.start, name=RABBITMQ), REDIS: changed(redis.starter(Fsync.ALWAYS), name=REDIS)}
        | {f"{REDIS}, in memory": changed(redis.starter(Fsync.NO_FILE), name=REDIS)},
        lambda running, present, tell: _measure(running, present, plan, tell),
        console,
        ours=OURS,
        plan=asdict(plan),
        measures=(*cells.MEASURES, *MEASURES),
        notes=NOTES,
        judge=lambda readings: judged(readings, OURS),
    )
    tell_and_keep(outcome, console, json_file)
    raise typer.Exit(0 if outcome.comparable else 1)


def _measure(running: Running, present: Sequence[Peer], plan: Plan, tell: Progress) -> Taken:
    durable = [peer for peer in present if peer.durable]
    # The same brokers once more, but for Redis, whose file does not ask what a message wants.
    passing = [peer if not peer.durable else replace(peer, durable=False) for peer in present if peer.name != REDIS or not peer.durable]
    taken = Taken()
    for peers, kind in ((durable, ", durable and confirmed"), (passing, ", neither durable nor confirmed")):
        if peers:
            measure_client(
                running,
                peers,
                "benchmarks.broker.client",
                _about,
                taken,
                table="kombu" + kind,
                rounds=plan.rounds,
                tell=tell,
                warm_up=WARM_UP_ROUNDS,
            )
            celery = measure(running, peers, plan, tell=tell, kind=kind)
            taken.readings += celery.readings
            taken.commits_ms += celery.commits_ms
            taken.failures |= celery.failures
    return taken


def _about(peer: Peer) -> dict[str, Any]:
    return {"url": peer.broker_url, "durable": peer.durable, "broker_pid": peer.broker_pid}


if __name__ == "__main__":
    typer.run(broker)
