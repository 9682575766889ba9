"""Asks one model server directly and through the queue, in turns: `python -m benchmarks.inference --help`.

Exit code 0 when it was measured, whether or not the goals held.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.coordination.house import NODE, broker, federation
from benchmarks.goals import Goal, show_goals, told, values
from benchmarks.inference import load
from benchmarks.inference.server import PARALLEL, served
from benchmarks.intervals import paired_ratio
from benchmarks.readings import Reading
from benchmarks.run import keep
from benchmarks.running import running

DIRECT, QUEUE = "direct", "queue"
AT_ONCE = (1, 8, 16)
LEAST_SHARE, MOST_LATER_MS = 0.9, 30.0
# As many places as the server has, so that its queue is the server's own.
_NODE_FILE = f'role = "developer"\npool = "threads"\nconcurrency = {PARALLEL}\n'
_MEASURES = {"tokens_per_s": "tokens/s", "first_p50_ms": "first part, p50 ms", "first_p99_ms": "first part, p99 ms"}

Rounds = Annotated[int, typer.Option(min=1, help="How often each way has its turn.")]
Each = Annotated[int, typer.Option(min=1, help="Questions of each asker in a turn.")]
Tokens = Annotated[int, typer.Option(min=1, max=400, help="Longest answer.")]
Apart = Annotated[bool, typer.Option("--apart", help="Give the server half of the cores, and all else the others; else they share all.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Keep what was measured here.")]


def inference(rounds: Rounds = 3, each: Each = 4, max_tokens: Tokens = 64, apart: Apart = False, json_file: JsonFile = None) -> None:
    """Measure tokens a second and the time to the first part at concurrency 1, 8 and 16."""
    console = Console()
    cores = sorted(os.sched_getaffinity(0))
    of_server, of_others = (cores[: len(cores) // 2], cores[len(cores) // 2 :]) if apart else (cores, cores)
    with running() as here:
        about = machine.facts(here.folder)
        # Whoever is started has the cores of this process.
        os.sched_setaffinity(0, of_server)
        with ExitStack() as stack:
            server = stack.enter_context(served(here))
            os.sched_setaffinity(0, of_others)
            activemq = stack.enter_context(broker(here))
            where = f"on {len(of_server)} of {len(cores)} cores, " + ("which nothing else here uses" if apart else "which all else here uses too")
            console.print(f"It is {server.program}, {where}.", highlight=False)
            with federation(here, activemq, {"ada": "lead"}, node_files={NODE: _NODE_FILE + server.entry}) as house:
                ways = {DIRECT: load.direct(server.client, max_tokens), QUEUE: load.through_queue(house, "ada", max_tokens)}
                readings = anyio.run(_measured, ways, rounds, each, console.print)
        about |= {"load_average_after": os.getloadavg()[0]}
    goals = judged(readings)
    _show(readings, console)
    show_goals(goals, console)
    plan = {"rounds": rounds, "each": each, "max_tokens": max_tokens, "server": server.program, "apart": apart, "worker_places": PARALLEL}
    kept: dict[str, Any] = {"commit": machine.revision(), "machine": about, "versions": machine.versions(), "plan": plan}
    kept |= {"readings": [asdict(reading) for reading in readings], "goals": [goal._asdict() for goal in goals]}
    keep(kept, console, json_file)


async def _measured(ways: dict[str, load.Way], rounds: int, each: int, tell: Callable[..., None]) -> list[Reading]:
    readings, turn = [], 0
    # Round 0 warms up and does not count.
    for number in range(rounds + 1):
        for at_once in AT_ONCE:
            for name, way in ways.items():
                turn += 1
                # One asker alone asks more, or its few answers would say little.
                found = await load.load(way, load.questions(max(2 * each, each * at_once), turn), at_once)
                tell(f"round {number}, {at_once} at once, {name}: {found.tokens_per_s:.0f} tokens/s, first part after {found.first_p50_ms:.0f} ms")
                if number:
                    table = table_of(at_once)
                    readings += [Reading(table, measure, name, number, value) for measure, value in asdict(found).items()]
    return readings


def table_of(at_once: int) -> str:
    """Return what stands above the figures of so many questions at once."""
    return f"{at_once} question{'s' if at_once > 1 else ''} at once"


def judged(readings: Sequence[Reading]) -> list[Goal]:
    """Return each goal with what was found: the share of direct throughput, and how much later the first part comes, of the same round."""
    goals = []
    for table in dict.fromkeys(reading.table for reading in readings):
        of = partial(values, readings, table)
        share = paired_ratio(of("tokens_per_s", QUEUE), of("tokens_per_s", DIRECT))
        goals.append(Goal(f"tokens/s ≥ {LEAST_SHARE:g} of direct", table, told(share), share.median >= LEAST_SHARE))
        pairs = zip(of("first_p50_ms", QUEUE), of("first_p50_ms", DIRECT), strict=True)
        later = median(mine - theirs for mine, theirs in pairs)
        goals.append(Goal(f"first part ≤ {MOST_LATER_MS:g} ms later, p50", table, f"{later:+.0f} ms", later <= MOST_LATER_MS))
    return goals


def _show(readings: Sequence[Reading], console: Console) -> None:
    table = Table("", "", DIRECT, QUEUE, title="Medians of the rounds", title_justify="left", title_style="bold")
    for title in dict.fromkeys(reading.table for reading in readings):
        for measure, name in _MEASURES.items():
            figures: list[Any] = [f"{median(values(readings, title, measure, way)):,.0f}" for way in (DIRECT, QUEUE)]
            table.add_row(title, name, *figures)
    console.print(table)


if __name__ == "__main__":
    typer.run(inference)
