"""The result backend beside Celery's database backend, Redis, and rpc over RabbitMQ, in one run: `python -m benchmarks.backends --help`.

Exit code 0 when ours and at least one peer were measured, 1 otherwise.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.backends.client import WRITERS
from benchmarks.backends.goals import judged
from benchmarks.backends.names import ALONE, DATABASE, IN_MEMORY, MEASURES, OURS, POOL, RABBITMQ, REDIS
from benchmarks.rounds import MEASURES as WITH_A_WORKER
from benchmarks.rounds import Plan, Progress, Taken, measure, measure_client
from benchmarks.run import compare, tell_and_keep
from benchmarks.running import Running
from benchmarks.servers import ours, rabbitmq, redis
from benchmarks.servers.peer import Peer, changed
from benchmarks.servers.redis import Fsync

RESULTS = 1600

NOTES = {
    "alone": f"{RESULTS} results stored by 1 or by {WRITERS} processes, one after the other in each; a commit, a send: likewise, median of 50",
    "with a worker": ".delay().get(): one client, one call after the other; chord: from the end of the header's last part to the start of the body",
    "peers": f"{REDIS} stores, {IN_MEMORY} has a worker; rpc stores nothing and joins no chords; "
    "the database backend polls, every 0.5 s for a result and every second for a chord",
}

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Quick = Annotated[bool, typer.Option("--quick", help="Two rounds of little, to see that it works.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings, the summary and the settings to this file too.")]


def backends(*, rounds: Rounds = 10, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Measure, print tables, goals and settings, and write the JSON if asked."""
    console = Console()
    plan = Plan(2, 100, 10, parts=50, naps=3) if quick else Plan(rounds, 600, 50, parts=1000, naps=10, warm_up=3000)
    outcome = compare(
        {
            OURS: ours.starter(OURS, ours.SCHEME),
            DATABASE: ours.starter(DATABASE, "db+postgresql+psycopg"),
            RABBITMQ: rabbitmq.start,
            REDIS: redis.starter(Fsync.ALWAYS),
            IN_MEMORY: changed(redis.starter(Fsync.NO_FILE), name=IN_MEMORY),
        },
        lambda running, present, tell: _measure(running, present, plan, tell),
        console,
        ours=OURS,
        plan={name: value for name, value in asdict(plan).items() if value},
        measures=(*MEASURES, *WITH_A_WORKER),
        notes=NOTES,
        judge=judged,
    )
    tell_and_keep(outcome, console, json_file)
    raise typer.Exit(0 if outcome.comparable else 1)


def _measure(running: Running, present: Sequence[Peer], plan: Plan, tell: Progress) -> Taken:
    taken = Taken()
    storing = [peer for peer in present if peer.name not in (RABBITMQ, IN_MEMORY)]
    measure_client(running, storing, "benchmarks.backends.client", _about, taken, table=ALONE, rounds=plan.rounds, tell=tell)
    working = [peer for peer in present if peer.name not in (REDIS, *taken.failures)]
    celery = measure(running, working, plan, tell=tell, pools=[POOL])
    taken.readings += celery.readings
    taken.commits_ms += celery.commits_ms
    taken.failures |= celery.failures
    return taken


def _about(peer: Peer) -> dict[str, Any]:
    return {"broker_url": peer.broker_url, "result_backend": peer.result_backend, "results": RESULTS}


if __name__ == "__main__":
    typer.run(backends)
