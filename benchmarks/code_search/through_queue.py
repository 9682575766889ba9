"""The same tree through the front door and the queue of a federation of one node, whose worker has done nothing before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from fastmcp import Client
from fastmcp.client.auth import BearerAuth

from benchmarks.code_search.corpus import copy
from benchmarks.coordination.house import NODE, House, broker, federation
from benchmarks.intervals import percentile
from benchmarks.running import Running

_NODE_FILE = 'role = "developer"\ntags = ["frag"]\nengines = ["minilm", "wordllama"]\npool = "threads"\nconcurrency = 4\n'
_LOOK_S = 1.0
# As many questions are asked through the queue: a worker that embeds beside answers two a second at most.
_ASKED = 200


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds until a tree was searchable (`cold`: by a worker that had just started), and what came after.

    `background_per_s` is how many chunks a second got their better vector, over `watched_s` seconds; `peak_mib` is the worker's memory at its most.
    """

    files: int
    bytes: int
    chunks: int
    cold_s: float
    warm_s: float
    unchanged_s: float
    one_file_s: float
    background_per_s: float
    watched_s: float
    background_left: int
    peak_mib: float
    search: dict[str, dict[str, float]]


def measure(running: Running, limit_bytes: int, questions: list[str], watch_s: float, tell: Callable[[str], None]) -> Found:
    """Start a federation, index, change, search, and end it."""
    tree = running.folder_of("tree")
    count, total = copy(tree, limit_bytes)
    again = running.folder_of("again")
    copy(again, limit_bytes)
    with broker(running) as activemq, federation(running, activemq, {"ada": "lead"}, node_files={NODE: _NODE_FILE}) as house:
        return anyio.run(_measured, _Plan(house, tree, again, questions, watch_s, tell), (count, total))


@dataclass(frozen=True, slots=True)
class _Plan:
    house: House
    tree: Path
    again: Path
    questions: list[str]
    watch_s: float
    tell: Callable[[str], None]


async def _measured(plan: _Plan, size: tuple[int, int]) -> Found:
    house, tree, tell = plan.house, plan.tree, plan.tell
    pid = house.pids[NODE]
    async with Client(house.url, auth=BearerAuth(house.tokens["ada"])) as ada:

        async def index(folder: Path, what: str) -> tuple[float, Any]:
            began = time.perf_counter()
            told = (await ada.call_tool("federation_index", {"path": str(folder), "wait_s": 600})).structured_content or {}
            took = time.perf_counter() - began
            assert told["searchable"], told
            tell(f"{what}: searchable after {took:.1f} s, {told['chunks']} pieces without a vector")
            return took, told

        async def left(run: Any) -> int:
            now = (await ada.call_tool("federation_index", {"run_id": run["run_id"]})).structured_content or {}
            return int(now["chunks"] * (1 - now["batches_done"] / max(1, now["batches"])))

        cold_s, run = await index(tree, "a worker that had just started")
        peak = _peak_mib(pid)
        before, began = await left(run), time.perf_counter()
        while time.perf_counter() - began < plan.watch_s and await left(run):
            await anyio.sleep(_LOOK_S)
        watched_s = time.perf_counter() - began
        after = await left(run)
        tell(f"embedded in the background: {before - after} pieces in {watched_s:.0f} s")
        unchanged_s, _ = await index(tree, "nothing had changed")
        (tree / "added.py").write_text("def added_while_it_is_measured() -> None:\n    pass\n")
        one_file_s, _ = await index(tree, "one file was new")
        warm_s, _ = await index(plan.again, "the same, to a worker that was warm")
        search = {}
        for clients in (1, 16):
            search[f"{clients} clients"] = await _search(house, plan.questions[:_ASKED], clients)
            tell(f"searches of {clients} clients: {search[f'{clients} clients']}")
        rate = (before - after) / watched_s
        times = (cold_s, warm_s, unchanged_s, one_file_s, rate, watched_s)
        return Found(*size, run["chunks"], *times, after, max(peak, _peak_mib(pid)), search)


async def _search(house: House, questions: list[str], clients: int) -> dict[str, float]:
    took: list[float] = []

    async def ask(some: list[str]) -> None:
        async with Client(house.url, auth=BearerAuth(house.tokens["ada"])) as ada:
            for question in some:
                began = time.perf_counter()
                await ada.call_tool("federation_search", {"query": question[:900], "limit": 10})
                took.append((time.perf_counter() - began) * 1000)

    await ask(questions[:3])
    took.clear()
    async with anyio.create_task_group() as group:
        for number in range(clients):
            group.start_soon(ask, questions[number::clients])
    return {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99)}


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
