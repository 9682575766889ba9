"""Sends, states, claims, votes and delegations through the front door beside a bare server that does just their commits and receipted sends.

All is started and ended here, on one PostgreSQL and one ActiveMQ; `python -m benchmarks.coordination --help`. Exit code 0 when it was measured,
whether or not the goals held.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.coordination.client import callers, partner
from benchmarks.coordination.floor import BROKER, DATABASE, SCHEMA
from benchmarks.coordination.goals import FLOOR, NAMED_MS, OPERATIONS, OURS, judged, table_of
from benchmarks.coordination.house import PYTHON, House, broker, federation
from benchmarks.goals import show_goals
from benchmarks.readings import Reading
from benchmarks.rounds import run_client
from benchmarks.run import keep
from benchmarks.running import Running, running
from benchmarks.summary import Line, summarize
from federation.cli.fleet import answers_http
from federation.local.parts import Part
from federation.local.ports import free_port

CLIENT = "benchmarks.coordination.client"


@dataclass(frozen=True)
class Plan:
    """Rounds that count, and how often each agent does each thing in a round, by the number of agents at once."""

    rounds: int
    times: Mapping[int, int]
    warms_up: bool = True


FULL_TIMES = {1: 50, 20: 5, 100: 2}
QUICK = Plan(1, {2: 1}, warms_up=False)
# The round that warms up is shorter, and each cell warms up by itself too.
WARM_UP_TIMES, WARM_UP_AGENTS = 10, 20
# A cell with many agents takes minutes where the machine is busy.
CELL_WITHIN_S = 900.0

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Quick = Annotated[bool, typer.Option("--quick", help="One round of few calls with two agents, to see that it works.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings, the summary and the settings to this file too.")]


def coordination(*, rounds: Rounds = 5, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Measure, print tables, goals and the machine, and write the JSON if asked."""
    console = Console()
    began = time.monotonic()
    plan = QUICK if quick else Plan(rounds, FULL_TIMES)
    names = callers(max(plan.times))
    readings: list[Reading] = []
    commits_ms: list[float] = []

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

    tell("starting the federation and the floor")
    # By the charter a lead may hand work to an agent by name.
    roles = dict.fromkeys(names, "lead") | dict.fromkeys(map(partner, names), "developer") | {"watcher": "developer"}
    with running() as here, broker(here) as activemq, federation(here, activemq, roles) as house:
        about = machine.facts(here.folder)
        with _floor(here, house) as floor_url:
            at: dict[str, dict[str, Any]] = {
                OURS: {"url": house.url, "tokens": dict(house.tokens), "database_url": house.database.url("federation_app")},
                FLOOR: {"url": floor_url, "tokens": None},
            }
            for number in range(0 if plan.warms_up else 1, plan.rounds + 1):
                for agents, times in plan.times.items():
                    if not number and agents > WARM_UP_AGENTS:
                        continue
                    # Who is first changes from round to round.
                    for peer in sorted(at, reverse=bool(number % 2)):
                        tell(f"{f'round {number} of {plan.rounds}' if number else 'warming up'}, {table_of(agents)}: {peer}")
                        commit_ms = machine.commit_ms(here.folder)
                        given = {"agents": agents, "times": times if number else min(times, WARM_UP_TIMES), "broker_url": activemq.url()}
                        told = run_client(CLIENT, here.folder, {**at[peer], **given}, within_s=CELL_WITHIN_S)
                        if number:
                            commits_ms.append(commit_ms)
                            readings += [Reading(table_of(agents), name, peer, number, value) for name, value in told.items()]
    lines, goals = summarize(readings, OURS), judged(readings)
    for agents in plan.times:
        console.print(_table(table_of(agents), lines))
    console.print(
        f"Medians of {plan.rounds} interleaved rounds, in ms; ratio: the federation's divided by the floor's of the same round, with the 95 % "
        "bootstrap interval. The floor: bare tools of FastMCP that do just the commits and receipted sends. "
        "Named: what the whitepaper names.",
        highlight=False,
    )
    show_goals(goals, console)
    kept = {
        "commit": machine.revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "plan": {"rounds": plan.rounds, "times": {str(agents): times for agents, times in plan.times.items()}, "fsync": True},
        "machine": about,
        "versions": machine.versions(),
        "took_s": round(time.monotonic() - began, 1),
        "goals": [goal._asdict() for goal in goals],
        "named_ms": NAMED_MS,
        "summary": [asdict(line) for line in lines],
        "commits_ms": commits_ms,
        "readings": [asdict(reading) for reading in readings],
    }
    keep(kept, console, json_file)


@contextmanager
def _floor(here: Running, house: House) -> Iterator[str]:
    """Yield the URL of the floor's server, in a database of its own on the same servers."""
    name = "floor"
    with psycopg.connect(house.database.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = house.database.server.url(name)
    with psycopg.connect(url) as connection:
        connection.execute(SCHEMA)
    port = free_port()
    environment = {DATABASE: url, BROKER: house.activemq.url()}
    door = Part(
        name="floor",
        command=[*PYTHON, "benchmarks.coordination.floor", str(port)],
        environment=environment,
        is_ready=answers_http("127.0.0.1", port, "/mcp"),
    )
    with here.part(door):
        yield f"http://127.0.0.1:{port}/mcp"


def _table(title: str, lines: Sequence[Line]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("from … to")
    for column in ("p50", "floor", "ratio", "p99", "floor", "ratio", "named"):
        table.add_column(column, justify="right")
    found: dict[tuple[str, str], Any] = {(line.measure, line.peer): line for line in lines if line.table == title}
    for name, operation in OPERATIONS.items():
        cells = []
        for percent in (50, 99):
            mine, floor = (found[f"{name}_p{percent}_ms", peer] for peer in (OURS, FLOOR))
            ratio = floor.ratio
            cells += [f"{mine.median:.1f}", f"{floor.median:.1f}", f"{ratio.median:.2f} ({ratio.low:.2f} – {ratio.high:.2f})"]
        table.add_row(operation, *cells, f"{NAMED_MS[name]:g}" if name in NAMED_MS else "")
    return table


if __name__ == "__main__":
    typer.run(coordination)
