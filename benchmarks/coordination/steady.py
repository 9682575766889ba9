"""Many agents at one front door for long: each waits for its inbox, and together they call so often a second. Is there no error, is memory flat?

Counted afterwards in the database and by who received it: nobody's message lost, nothing doubled, no two holders, order without gaps.
`python -m benchmarks.coordination.steady --help`. Exit code 0 when all of that held, 1 otherwise.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.coordination.house import NODE, House, broker, federation
from benchmarks.coordination.mixture import Mixture
from benchmarks.coordination.proof import flaws
from benchmarks.coordination.seat import Line, Seat
from benchmarks.goals import Goal, show_goals
from benchmarks.intervals import percentile
from benchmarks.processes import pss_mib, rss_mib, tree, usages
from benchmarks.run import keep
from benchmarks.running import running
from benchmarks.soak.flatness import Growth, Sample, growths

WARM_UP, SAMPLES = 0.3, 20
# After the warm-up, from the first third of the samples to the last; a short run says nothing of it.
LIMITS_MIB: Mapping[str, float] = {"door": 8.0, NODE: 8.0, "beat": 8.0}
JUDGED_FROM_S = 300.0
# Of the calls that were to be made in the time.
KEPT_UP = 0.99

Agents = Annotated[int, typer.Option(min=4, help="Agents, each of which waits for its inbox.")]
Rate = Annotated[float, typer.Option(min=0.1, help="Calls of tools a second, of all agents together.")]
Seconds = Annotated[float, typer.Option(min=5, help="How long.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write samples, verdicts and settings to this file too.")]


def steady(*, agents: Agents = 200, rate: Rate = 50.0, seconds: Seconds = 600.0, json_file: JsonFile = None) -> None:
    """Run, print a line for each sample and what held, and write the JSON if asked."""
    console = Console(highlight=False)
    began = time.monotonic()
    names = [f"agent-{number}" for number in range(agents)]
    # By the charter a lead may hand work to an agent by name.
    roles = {name: "lead" if number % 4 == 0 else "developer" for number, name in enumerate(names)}
    with running() as here, broker(here) as activemq, federation(here, activemq, roles) as house:
        about = machine.facts(here.folder) | {"commit_ms": machine.commit_ms(here.folder)}
        mixture, samples = asyncio.run(_run(house, roles, rate=rate, seconds=seconds, console=console))
        with psycopg.connect(house.database.url()) as connection:
            found = [*mixture.flaws(), *flaws(connection)]
    limits = {part: limit if seconds >= JUDGED_FROM_S else math.inf for part, limit in LIMITS_MIB.items()}
    grown = growths(samples, limits, warm_up=WARM_UP)
    reached = mixture.calls_in_time / seconds
    goals = [
        Goal("no error", f"{mixture.calls} calls", f"{len(mixture.errors)} errors", not mixture.errors),
        Goal("nothing lost or doubled, one holder, no gaps", f"{mixture.sent} messages, {mixture.won} claims", f"{len(found)} flaws", not found),
        Goal(f"{rate:g} calls a second", f"{agents} agents, {seconds:g} s", f"{reached:.1f}", reached >= KEPT_UP * rate),
        *(Goal(f"grows by {each.limit_mib:g} MiB at most", each.part, f"{each.grown_mib:+.1f} MiB", not each.too_much) for each in grown),
    ]
    show_goals(goals, console)
    for line in [*mixture.errors[:5], *found[:5]]:
        console.print(line, markup=False)
    took = {name: {f"p{percent}_ms": percentile(values, percent) for percent in (50, 99)} for name, values in sorted(mixture.took_ms.items())}
    for name, each in took.items():
        console.print(f"{name:22} p50 {each['p50_ms']:8.1f} ms  p99 {each['p99_ms']:8.1f} ms  {len(mixture.took_ms[name])} calls")
    kept = {
        "commit": machine.revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "plan": {"agents": agents, "rate": rate, "seconds": seconds, "warm_up": WARM_UP, "fsync": True},
        "machine": about,
        "versions": machine.versions(),
        "took_s": round(time.monotonic() - began, 1),
        "held": all(goal.held for goal in goals),
        "goals": [goal._asdict() for goal in goals],
        "calls": mixture.calls,
        "errors": mixture.errors,
        "flaws": found,
        "took": took,
        # JSON knows no infinity: without a limit a part is not judged.
        "growths": [_finite(each) for each in grown],
        "samples": [asdict(sample) for sample in samples],
    }
    keep(kept, console, json_file)
    # That a slow machine does not keep up is told, and is no error.
    raise typer.Exit(0 if all(goal.held for goal in goals if goal.goal != goals[2].goal) else 1)


def _finite(growth: Growth) -> dict[str, object]:
    return asdict(growth) | {"limit_mib": growth.limit_mib if math.isfinite(growth.limit_mib) else None}


async def _run(house: House, roles: Mapping[str, str], *, rate: float, seconds: float, console: Console) -> tuple[Mixture, list[Sample]]:
    async with Line(house.url) as line:
        mixture = Mixture({name: Seat(line, name, token) for name, token in house.tokens.items()}, roles)
        await mixture.begin()
        samples: list[Sample] = []
        console.print("calls  " + "  ".join(f"{part + ' PSS/RSS MiB':>24}" for part in house.pids), soft_wrap=True)

        async def watch() -> None:
            while True:
                await asyncio.sleep(seconds / SAMPLES)
                samples.append(await asyncio.to_thread(_sample, mixture.calls, house.pids))
                row = "  ".join(f"{samples[-1].pss_mib[part]:12.1f} / {samples[-1].rss_mib[part]:9.1f}" for part in house.pids)
                console.print(f"{mixture.calls:5d}  {row}", soft_wrap=True)

        watching = asyncio.create_task(watch())
        await mixture.go_on(rate=rate, seconds=seconds)
        watching.cancel()
        await mixture.end()
        return mixture, samples


def _sample(calls: int, pids: Mapping[str, int]) -> Sample:
    now = usages()
    trees: Mapping[str, Sequence[int]] = {part: tree(pid, now) for part, pid in pids.items()}
    return Sample(calls, {part: pss_mib(found) for part, found in trees.items()}, {part: rss_mib(found) for part, found in trees.items()})


if __name__ == "__main__":
    typer.run(steady)
