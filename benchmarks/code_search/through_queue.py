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
# How long the embedding is watched before anybody asks.
_ALONE_S = 45.0


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds until a tree was searchable (`cold`: by a worker that had just started), and what came after.

    `background_per_s` is how many chunks a second got their better vector, over `watched_s` seconds in which nobody asked; after `embedded_s`,
    in which was searched too, `background_left` had none yet. `warm` is a second tree with nothing beside it, if none were left.
    Searches are those `while embedding` and those `when embedded`, in milliseconds as an agent sees them.
    """

    files: int
    bytes: int
    chunks: int
    cold_s: float
    background_per_s: float
    watched_s: float
    embedded_s: float
    background_left: int
    unchanged_s: float
    one_file_s: float
    warm_s: float
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
    house, tree = plan.house, plan.tree
    pid = house.pids[NODE]

    def tell(what: str) -> None:
        plan.tell(f"{what}; the worker had {_peak_mib(pid):.0f} MiB at its most")

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

        async def embedded(for_s: float) -> int:
            """Wait until all is embedded, but no longer; return what is left."""
            began = time.perf_counter()
            while (still := await left(run)) and time.perf_counter() - began < for_s:
                await anyio.sleep(_LOOK_S)
            return still

        search: dict[str, dict[str, float]] = {}

        async def searches(when: str) -> None:
            for clients in (1, 16):
                search[f"{when}, {clients} clients"] = found = await _search(house, plan.questions, clients)
                tell(f"searches {when}, {clients} clients: {found}")

        cold_s, run = await index(tree, "a worker that had just started")
        before, began = await left(run), time.perf_counter()
        after = await embedded(min(_ALONE_S, plan.watch_s))
        watched_s = time.perf_counter() - began
        tell(f"embedded in the background: {before - after} pieces in {watched_s:.0f} s")
        if after:
            await searches("while embedding")
        still = await embedded(plan.watch_s - (time.perf_counter() - began))
        embedded_s = time.perf_counter() - began
        tell(f"{still} pieces are not embedded after {embedded_s:.0f} s")
        await searches("when embedded" if not still else "a little later")
        unchanged_s, _ = await index(tree, "nothing had changed")
        (tree / "added.py").write_text("def added_while_it_is_measured() -> None:\n    pass\n")
        one_file_s, _ = await index(tree, "one file was new")
        warm_s, _ = await index(plan.again, "the same, to a worker that was warm")
        rate = (before - after) / watched_s
        return Found(*size, run["chunks"], cold_s, rate, watched_s, embedded_s, still, unchanged_s, one_file_s, warm_s, _peak_mib(pid), search)


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
