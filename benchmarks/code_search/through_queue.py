"""The same tree through the front door and the queue of a federation of one node, whose worker has done nothing before."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from benchmarks.code_search.corpus import copy
from benchmarks.coordination.house import NODE, House, broker, federation
from benchmarks.coordination.seat import Line, Seat
from benchmarks.intervals import percentile
from benchmarks.running import Running

_NODE_FILE = 'role = "developer"\ntags = ["frag"]\nengines = ["minilm", "wordllama"]\npool = "threads"\nconcurrency = 4\n'
_LOOK_S = 1.0
# A conversation for which nothing is indexed.
_EMPTY = "empty"
# How long the embedding is watched before anybody asks.
_ALONE_S = 45.0


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds until a tree was searchable (`cold`: by a worker that had just started), and what came after.

    `background_per_s` is how many chunks a second got their better vector, over `watched_s` seconds in which nobody asked; after `embedded_s`,
    in which was searched too, `background_left` had none yet. `warm` is a second tree with nothing beside it, if none were left.
    Searches are those `while embedding` and those `when embedded`, in milliseconds as an agent sees them. `floors` are what the door takes for a call
    that reads a row, and door, queue and worker for a search with nothing to look in.
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
    floors: dict[str, dict[str, float]]


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

    async with Line(house.url) as line:
        ada = Seat(line, "ada", house.tokens["ada"])

        async def index(folder: Path, what: str) -> tuple[float, Any]:
            began = time.perf_counter()
            told = await ada.call("federation_index", path=str(folder), wait_s=600)
            took = time.perf_counter() - began
            assert told["searchable"], told
            tell(f"{what}: searchable after {took:.1f} s, {told['chunks']} pieces without a vector")
            return took, told

        async def left(run: Any) -> int:
            now = await ada.call("federation_index", run_id=run["run_id"])
            return int(now["chunks"] * (1 - now["batches_done"] / max(1, now["batches"])))

        async def embedded(for_s: float) -> int:
            """Wait until all is embedded, but no longer; return what is left."""
            began = time.perf_counter()
            while (still := await left(run)) and time.perf_counter() - began < for_s:
                await anyio.sleep(_LOOK_S)
            return still

        asked = _Asked(ada, plan)
        cold_s, run = await index(tree, "a worker that had just started")
        before, began = await left(run), time.perf_counter()
        after = await embedded(min(_ALONE_S, plan.watch_s))
        watched_s = time.perf_counter() - began
        tell(f"embedded in the background: {before - after} pieces in {watched_s:.0f} s")
        if after:
            await asked.search("while embedding")
        still = await embedded(plan.watch_s - (time.perf_counter() - began))
        embedded_s = time.perf_counter() - began
        tell(f"{still} pieces are not embedded after {embedded_s:.0f} s")
        await asked.all("when embedded" if not still else "a little later", lambda: left(run))
        unchanged_s, _ = await index(tree, "nothing had changed")
        (tree / "added.py").write_text("def added_while_it_is_measured() -> None:\n    pass\n")
        one_file_s, _ = await index(tree, "one file was new")
        warm_s, _ = await index(plan.again, "the same, to a worker that was warm")
        rate, times = (before - after) / watched_s, (unchanged_s, one_file_s, warm_s)
        return Found(*size, run["chunks"], cold_s, rate, watched_s, embedded_s, still, *times, _peak_mib(pid), asked.searches, asked.floors)


class _Asked:
    """What searches took, and what is the least that they can."""

    def __init__(self, ada: Seat, plan: _Plan) -> None:
        self._ada, self._plan = ada, plan
        self.searches: dict[str, dict[str, float]] = {}
        self.floors: dict[str, dict[str, float]] = {}

    async def search(self, when: str) -> None:
        """Ask the questions, at one client and at many."""

        async def ask(question: str) -> None:
            assert (await self._ada.call("federation_search", query=question[:900], limit=10))["hits"]

        await self._at_one_and_at_many(when, self.searches, ask)

    async def all(self, when: str, look: Callable[[], Awaitable[object]]) -> None:
        """Ask them, with the floors beside it."""

        async def read(_: str) -> None:
            await look()

        async def ask_about_nothing(question: str) -> None:
            assert (await self._ada.call("federation_search", query=question[:900], limit=10, conversation_id=_EMPTY))["hits"] == []

        await self.search(when)
        await self._at_one_and_at_many("a call that reads a row", self.floors, read)
        await self._ada.call("federation_send", content="nothing is indexed for us", conversation_id=_EMPTY)
        await self._at_one_and_at_many("a search of nothing", self.floors, ask_about_nothing)

    async def _at_one_and_at_many(self, what: str, found: dict[str, dict[str, float]], ask: Callable[[str], Awaitable[None]]) -> None:
        for clients in (1, 16):
            found[f"{what}, {clients} clients"] = took = await _took(ask, self._plan.questions, clients)
            self._plan.tell(f"{what}, {clients} clients: {took}")


async def _took(ask: Callable[[str], Awaitable[None]], questions: list[str], clients: int) -> dict[str, float]:
    took: list[float] = []
    waiting = iter(questions)

    async def client() -> None:
        for question in waiting:
            began = time.perf_counter()
            await ask(question)
            took.append((time.perf_counter() - began) * 1000)

    for question in questions[:3]:
        await ask(question)
    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(client)
    return {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99)}


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
