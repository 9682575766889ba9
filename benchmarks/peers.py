"""Ours beside RabbitMQ + rpc and Redis on this machine, in one run: starts all servers itself and ends them; `--help` lists the options.

Exit code 0 when ours and at least one peer were measured, 1 otherwise.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.rounds import MEASURES, Plan, measure
from benchmarks.run import compare, tell_and_keep
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.redis import Fsync

QUICK = Plan(rounds=3, tasks=100, calls=30)
WARM_UP = 5000

NOTES = {
    "measures": "published: by one client while the worker is held, so that a backlog builds up; processed: from letting go until the last one has "
    "ended, results stored; .delay().get(): one client, one call after the other"
}

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Tasks = Annotated[int, typer.Option(min=1, help="No-op tasks of a backlog, a round.")]
Calls = Annotated[int, typer.Option(min=1, help="Calls of .delay().get(), a round.")]
Quick = Annotated[bool, typer.Option("--quick", help=f"{QUICK.rounds} rounds of {QUICK.tasks} tasks and {QUICK.calls} calls, to see that it works.")]
RedisFsync = Annotated[Fsync, typer.Option(help="When Redis syncs its file; the others sync before they answer.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings, the summary and the settings to this file too.")]


def peers(
    *,
    rounds: Rounds = 10,
    tasks: Tasks = 600,
    calls: Calls = 100,
    quick: Quick = False,
    redis_fsync: RedisFsync = Fsync.ALWAYS,
    json_file: JsonFile = None,
) -> None:
    """Measure, print tables and settings, and write the JSON if asked."""
    console = Console()
    plan = QUICK if quick else Plan(rounds, tasks, calls, warm_up=WARM_UP)
    outcome = compare(
        {ours.NAME: ours.starter(ours.NAME, ours.SCHEME), rabbitmq.NAME: rabbitmq.start, redis.NAME: redis.starter(redis_fsync)},
        lambda running, present, tell: measure(running, present, plan, tell=tell),
        console,
        ours=ours.NAME,
        plan={name: value for name, value in asdict(plan).items() if value},
        measures=MEASURES,
        notes=NOTES,
    )
    tell_and_keep(outcome, console, json_file)
    raise typer.Exit(0 if outcome.comparable else 1)


if __name__ == "__main__":
    typer.run(peers)
