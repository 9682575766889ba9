"""Many messages through one publisher, one consumer, one Celery worker and one broker that all live long: is memory flat, and is all there?

Starts and ends everything itself. Exit code 0 when memory stayed flat and nothing was lost or doubled, 1 otherwise.
"""

import json
import math
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.processes import pss_mib, rss_mib, tree, usages
from benchmarks.run import keep
from benchmarks.running import Running, running
from benchmarks.soak.flatness import Growth, Sample, growths
from benchmarks.soak.load import CONSUMED, PUBLISHED, RAN, VERDICT, Plan, counted, write_plan
from federation.errors import LocalServiceError
from federation.local import children, jars, parts
from federation.local.activemq import USERS, ActiveMQ
from federation.local.ports import free_port
from federation.settings import settings

WARM_UP = 0.3
SAMPLES = 20
# The JVM fills its heap before it collects: of the broker only what exceeds that is growth, and a short run says nothing of it.
LIMITS_MIB: Mapping[str, float] = {"publisher": 2.0, "consumer": 2.0, "worker": 4.0, "broker": 24.0}
BROKER_JUDGED_FROM = 50_000
WITHOUT_PROGRESS_S = 120.0

Messages = Annotated[int, typer.Option(min=100, help="Messages in all.")]
BodyBytes = Annotated[int, typer.Option(min=10, help="Bytes of a body.")]
TaskEvery = Annotated[int, typer.Option(min=2, help="Every so manieth message is a task for the Celery worker.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write samples, verdicts and settings to this file too.")]


def soak(*, messages: Messages = 100_000, body_bytes: BodyBytes = 2000, task_every: TaskEvery = 10, json_file: JsonFile = None) -> None:
    """Run, print a line for each sample and a verdict for each part, and write the JSON if asked."""
    console = Console(highlight=False)
    began = time.monotonic()
    with running() as here, ExitStack() as stack:
        about = machine.facts(here.folder)
        activemq = ActiveMQ(here.folder_of("activemq"), free_port(), {user: secrets.token_urlsafe(18) for user in USERS}, _distribution())
        plan = Plan(activemq.url(), messages, body_bytes, task_every)
        pids = {"broker": stack.enter_context(here.part(activemq.part()))}
        folder = here.folder_of("soak")
        write_plan(folder, plan)
        for part in _parts(here, folder):
            pids[part.name] = stack.enter_context(here.part(part))
        samples = _watch(plan, pids, folder, console)
        verdict = json.loads((folder / VERDICT).read_text())
        ran = counted(RAN, folder)
    lost_or_doubled = _account(plan, verdict["doubled"], ran)
    limits = {part: limit if part != "broker" or messages >= BROKER_JUDGED_FROM else math.inf for part, limit in LIMITS_MIB.items()}
    grown = growths(samples, limits, warm_up=WARM_UP)
    took_s = time.monotonic() - began
    console.print(f"{messages} messages of {body_bytes} bytes, {plan.tasks} of them tasks, in {took_s:.0f} s.")
    for line in [_told(growth) for growth in grown] + lost_or_doubled:
        console.print(line, soft_wrap=True)
    flat = not any(growth.too_much for growth in grown)
    told = {
        "commit": machine.revision(),
        "plan": {"messages": messages, "body_bytes": body_bytes, "task_every": task_every, "warm_up": WARM_UP},
        "machine": about,
        "versions": machine.versions(),
        "took_s": round(took_s, 1),
        "held": flat and not lost_or_doubled,
        "tasks_sent": plan.tasks,
        "tasks_ran": ran,
        "doubled": verdict["doubled"],
        # JSON knows no infinity: without a limit a part is not judged.
        "growths": [asdict(growth) | {"limit_mib": growth.limit_mib if math.isfinite(growth.limit_mib) else None} for growth in grown],
        "samples": [asdict(sample) for sample in samples],
    }
    keep(told, console, json_file)
    raise typer.Exit(0 if told["held"] else 1)


def _distribution() -> jars.Distribution:
    return jars.find_or_fetch(settings().activemq_home, settings().cache_dir)


def _parts(here: Running, folder: Path) -> Sequence[parts.Part]:
    def module(name: str) -> list[str | Path]:
        return [sys.executable, "-m", f"benchmarks.soak.{name}"]

    worker = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.soak.project",
        "worker",
        "-c",
        "2",
        "--without-mingle",
        "--without-gossip",
        "-l",
        "INFO",
    ]
    return (
        parts.Part(name="worker", command=worker, cwd=folder, is_ready=lambda: "ready." in here.log_of("worker").read_text()),
        parts.Part(name="consumer", command=module("consumer"), cwd=folder),
        parts.Part(name="publisher", command=module("publisher"), cwd=folder),
    )


def _watch(plan: Plan, pids: Mapping[str, int], folder: Path, console: Console) -> list[Sample]:
    """Take a sample after each twentieth of the messages until all are done.

    Raises LocalServiceError when a part ends or nothing moves any more.
    """
    console.print("messages  " + "  ".join(f"{part + ' PSS/RSS MiB':>24}" for part in pids), soft_wrap=True)
    samples: list[Sample] = []
    done, moved = 0, time.monotonic()
    while done < plan.messages or not (folder / VERDICT).exists():
        time.sleep(0.05)
        before, done = done, min(plan.messages, counted(CONSUMED, folder) + counted(RAN, folder))
        if done > before:
            moved = time.monotonic()
        gone = [part for part, pid in pids.items() if not children.is_alive(pid)]
        if gone or time.monotonic() - moved > WITHOUT_PROGRESS_S:
            story = f"{', '.join(gone)} ended" if gone else f"nothing moved for {WITHOUT_PROGRESS_S:g} s"
            raise LocalServiceError(f"{story} after {done} of {plan.messages} messages, {counted(PUBLISHED, folder)} published")
        if done >= (len(samples) + 1) * plan.messages // SAMPLES:
            samples.append(_sample(done, pids))
            console.print(_row(samples[-1]), soft_wrap=True)
    return samples


def _sample(messages: int, pids: Mapping[str, int]) -> Sample:
    now = usages()
    trees = {part: tree(pid, now) for part, pid in pids.items()}
    return Sample(messages, {part: pss_mib(tree) for part, tree in trees.items()}, {part: rss_mib(tree) for part, tree in trees.items()})


def _row(sample: Sample) -> str:
    return f"{sample.messages:8d}  " + "  ".join(f"{sample.pss_mib[part]:12.1f} / {sample.rss_mib[part]:9.1f}" for part in sample.pss_mib)


def _account(plan: Plan, doubled: int, ran: int) -> list[str]:
    """Say what is wrong with the numbers; the consumer stays until it has each of its messages, so none of those is lost."""
    found = [f"[red]{doubled} messages came twice without a reason[/]"] if doubled else []
    if ran != plan.tasks:
        found.append(f"[red]{plan.tasks} tasks were sent and {ran} ran[/]")
    return found


def _told(growth: Growth) -> str:
    limit = f"the limit is {growth.limit_mib:g}" if math.isfinite(growth.limit_mib) else f"judged from {BROKER_JUDGED_FROM} messages on"
    text = f"{growth.part}: {growth.grown_mib:+.1f} MiB after the warm-up, {limit}"
    return f"[red]{text}[/]" if growth.too_much else text


if __name__ == "__main__":
    typer.run(soak)
