"""Ours beside RabbitMQ + rpc and Redis on this machine, in one run: starts all servers itself and ends them; `--help` lists the options.

Exit code 0 when ours and at least one peer were measured, 1 otherwise.
"""

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.report import Outcome, as_json, show
from benchmarks.rounds import Plan, measure
from benchmarks.running import running
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.peer import Peer, Start
from benchmarks.servers.redis import Fsync
from federation.errors import LocalServiceError

QUICK = Plan(rounds=3, tasks=100, calls=30)

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Tasks = Annotated[int, typer.Option(min=1, help="No-op tasks of a backlog, a round.")]
Calls = Annotated[int, typer.Option(min=1, help="Calls of .delay().get(), a round.")]
Quick = Annotated[bool, typer.Option("--quick", help=f"{QUICK.rounds} rounds of {QUICK.tasks} tasks and {QUICK.calls} calls, to see that it works.")]
RedisFsync = Annotated[Fsync, typer.Option(help="When Redis syncs its file; the others sync before they answer.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all samples, the summary and the settings to this file too.")]


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
    outcome = run(QUICK if quick else Plan(rounds, tasks, calls), redis_fsync, console)
    show(outcome, console)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_json(outcome), indent=1) + "\n")
        console.print(f"Written to {json_file}.")
    raise typer.Exit(0 if outcome.comparable else 1)


def run(plan: Plan, redis_fsync: Fsync, console: Console) -> Outcome:
    """Start what can be had, measure it, and end all of it."""
    began = time.monotonic()
    starters: dict[str, Start] = {ours.NAME: ours.start, rabbitmq.NAME: rabbitmq.start, redis.NAME: redis.starter(redis_fsync)}
    absent: dict[str, str] = {}
    with running() as here, ExitStack() as servers:
        about = machine.facts(here.folder)
        present: list[Peer] = []
        for name, start in starters.items():
            console.print(f"Starting {name}.")
            try:
                present.append(servers.enter_context(start(here)))
            except LocalServiceError as error:
                absent[name] = str(error)
        with console.status("") as status:

            def tell(what: str) -> None:
                status.update(what)
                if not console.is_terminal:
                    console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

            samples, failures = measure(here, present, plan, tell=tell)
        about |= {"load_average_after": os.getloadavg()[0]}
    return Outcome(
        ours=ours.NAME,
        plan=plan,
        machine=about,
        versions=machine.versions(),
        peers=[peer for peer in present if peer.name not in failures],
        absent=absent | failures,
        samples=samples,
        took_s=time.monotonic() - began,
    )


if __name__ == "__main__":
    typer.run(peers)
