"""How long questions take at a node that is well, alone and while another node's model server hangs: `python -m benchmarks.hanging --help`.

Exit code 0 when it was measured, whether or not the goal held.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import anyio
import typer
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.coordination.house import House, broker, federation
from benchmarks.goals import Goal, show_goals, told, values
from benchmarks.intervals import paired_ratio, percentile
from benchmarks.readings import Reading
from benchmarks.run import keep
from benchmarks.running import Running, running
from federation.engines import smollm2
from federation.engines.openai import ModelServer
from federation.local.model_parts import Serving
from federation.local.ports import keep_or_choose

STEADY, FRAIL = "steady", "frail"
ALONE, BESIDE = "both well", "frail hangs"
TO_STEADY, TO_ANY = "asked of the node that is well", "asked of any node"
GOAL_TIMES = 2.0
MODEL, PARALLEL, AT_ONCE = "SmolLM2-135M", 4, 2
# What the server that hangs is given up after; and so many questions wait in it meanwhile.
PATIENCE_S, STUCK = 2.0, 4
AGENT = "ada"

Rounds = Annotated[int, typer.Option(min=1, help="How often each state has its turn.")]
Each = Annotated[int, typer.Option(min=AT_ONCE, help="Questions in a turn.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Keep what was measured here.")]


def hanging(rounds: Rounds = 3, each: Each = 30, json_file: JsonFile = None) -> None:
    """Measure how long answers take at two nodes with a llama.cpp server each, while both are well and while the one's is stopped (SIGSTOP)."""
    console = Console()
    with running() as here:
        about = machine.facts(here.folder)
        with ExitStack() as stack:
            entries, pids = {}, {}
            for name in (STEADY, FRAIL):
                entries[name], pids[name] = stack.enter_context(_served(here, name))
            activemq = stack.enter_context(broker(here))
            files = {name: f'role = "developer"\npool = "threads"\nconcurrency = {PARALLEL}\n{entry}' for name, entry in entries.items()}
            with federation(here, activemq, {AGENT: "lead"}, node_files=files) as house:
                readings = anyio.run(_measured, house, pids[FRAIL], rounds, each, console)
        about |= {"load_average_after": os.getloadavg()[0]}
    goals = judged(readings)
    _show(readings, console)
    show_goals(goals, console)
    plan = {"rounds": rounds, "each": each, "at_once": AT_ONCE, "stuck": STUCK, "given_up_after_s": PATIENCE_S, "servers": "llama.cpp"}
    kept: dict[str, Any] = {"commit": machine.revision(), "machine": about, "versions": machine.versions(), "plan": plan}
    kept |= {"readings": [asdict(reading) for reading in readings], "goals": [goal._asdict() for goal in goals]}
    keep(kept, console, json_file)


@contextmanager
def _served(here: Running, name: str) -> Iterator[tuple[str, int]]:
    """Yield what a node's file says of a server of its own, and the pid of that server."""
    weights = smollm2.checked()
    serving = Serving(
        name=name,
        model=MODEL,
        weights=weights.path,
        digest=weights.digest,
        host="127.0.0.1",
        port=keep_or_choose(None),
        window=1024,
        parallel=PARALLEL,
        cards=0,
        threads=1,
        key_file=None,
        vllm_python=Path(),
    )
    url = f"http://127.0.0.1:{serving.port}"
    client = ModelServer(name, url=f"{url}/v1", model=MODEL)
    fields = {"name": name, "model": MODEL, "url": url, "parallel": PARALLEL, "first_part_s": PATIENCE_S, "part_s": PATIENCE_S}
    entry = "".join(f"{field} = {value!r}\n" for field, value in fields.items())
    with here.part(serving.part(is_ready=client.is_healthy, check=lambda: None)) as pid:
        yield f"[[servers]]\n{entry}", pid


async def _measured(house: House, frail: int, rounds: int, each: int, console: Console) -> list[Reading]:
    readings = []
    async with Client(house.url, auth=BearerAuth(house.tokens[AGENT])) as client:
        # Round 0 warms up and does not count.
        for number in range(rounds + 1):
            for table, node in ((TO_STEADY, STEADY), (TO_ANY, None)):
                for state in (ALONE, BESIDE) if number % 2 else (BESIDE, ALONE):
                    with _stopped(frail) if state == BESIDE else ExitStack():
                        stuck = [await _ask(client, "What is stuck?", node=FRAIL, wait_s=0) for _ in range(STUCK if state == BESIDE else 0)]
                        took = await _asked(client, each, node)
                    for answer in stuck:
                        await client.call_tool("federation_task_result", {"task_id": answer["execution_id"], "wait_s": 240})
                    found = {"p50_ms": percentile(took, 50) * 1000, "p95_ms": percentile(took, 95) * 1000}
                    console.print(f"round {number}, {table}, {state}: p50 {found['p50_ms']:.0f} ms, p95 {found['p95_ms']:.0f} ms", highlight=False)
                    if number:
                        readings += [Reading(table, measure, state, number, value) for measure, value in found.items()]
    return readings


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _ask(client: Client[Any], question: str, *, node: str | None, wait_s: float) -> dict[str, Any]:
    given = {"prompt": question, "max_tokens": 16, "wait_s": wait_s} | ({} if node is None else {"node": node})
    return (await client.call_tool("federation_infer", given)).structured_content or {}


async def _asked(client: Client[Any], each: int, node: str | None) -> list[float]:
    took: list[float] = []
    left = iter(range(each))

    async def asker() -> None:
        for number in left:
            began = time.perf_counter()
            answer = await _ask(client, f"{number}: what is it divided by?", node=node, wait_s=240)
            assert answer["text"] is not None, answer
            took.append(time.perf_counter() - began)

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(asker)
    return took


def judged(readings: Sequence[Reading]) -> list[Goal]:
    """Return the goal with what was found: p95 at the node that is well, beside the same when both are."""
    beside, alone = (values(readings, TO_STEADY, "p95_ms", state) for state in (BESIDE, ALONE))
    ratio = paired_ratio(beside, alone)
    return [Goal(f"p95 < {GOAL_TIMES:g} × that when both are well", TO_STEADY, told(ratio), ratio.median < GOAL_TIMES)]


def _show(readings: Sequence[Reading], console: Console) -> None:
    table = Table("", "ms", ALONE, BESIDE, title="Medians of the rounds", title_justify="left", title_style="bold")
    for title in (TO_STEADY, TO_ANY):
        for measure in ("p50_ms", "p95_ms"):
            figures = [f"{median(values(readings, title, measure, state)):,.0f}" for state in (ALONE, BESIDE)]
            table.add_row(title, measure.removesuffix("_ms"), *figures)
    console.print(table)


if __name__ == "__main__":
    typer.run(hanging)
