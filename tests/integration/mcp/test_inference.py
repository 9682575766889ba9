"""federation_infer over a node whose model server is llama.cpp's real one: parts in order, forms of answers, and cancelling that frees the server."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastmcp.exceptions import ToolError

from federation.services import agents
from tests.integration.world import World
from tests.model_servers import LlamaServer, llama_server

pytestmark = pytest.mark.anyio

STORY = {"prompt": "Tell me a very long story about the sea.", "max_tokens": 300, "wait_s": 240}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(tmp_path_factory.mktemp("model")) as started:
        yield started


@pytest.fixture(scope="module")
def world(postgres: Any, activemq: Any, stock: Any, watch: Any, tmp_path_factory: pytest.TempPathFactory, model: LlamaServer) -> Iterator[World]:
    postgres.start()
    activemq.start()
    with stock.lend() as owner_url:
        app, service = (postgres.as_role(role, owner_url) for role in ("federation_app", "federation_service"))
        made = World(tmp_path_factory.mktemp("world"), owner_url=owner_url, database_url=app, service_url=service, broker=activemq)
        for pool in ("threads", "prefork"):
            made.worker(made.node(pool, pool=pool, servers=[model.entry]))
        try:
            yield made
        finally:
            made.close()
        assert watch.flaws(owner_url) == []


@pytest.fixture(scope="module")
def house(world: World, serve: Any) -> Iterator[Any]:
    with world.transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in {"ada": "lead", "bob": "developer"}.items()}
    with serve(world.transactions, world.database_url, tokens) as opened:
        yield opened


async def until(condition: Any) -> Any:
    async with asyncio.timeout(90):
        while not (found := condition()):
            await asyncio.sleep(0.02)
    return found


async def test_parts_come_in_order_as_progress_in_the_status_and_in_the_log(house: Any, world: World) -> None:
    told: list[tuple[float, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message or ""))

    async with house.client("ada") as ada, house.client("ada") as also_ada, house.client("bob") as bob:
        asking = asyncio.create_task(ada.call_tool("federation_infer", {**STORY, "seed": 77}, progress_handler=hear))
        [(identity,)] = await until(lambda: world.rows("SELECT id FROM executions WHERE kwargs->>'seed' = '77'"))
        await until(lambda: len(told) > 1)
        status = (await also_ada.call_tool("federation_task_status", {"task_id": str(identity)})).structured_content
        with pytest.raises(ToolError, match="no task"):
            await bob.call_tool("federation_task_status", {"task_id": str(identity)})
        said = (await asking).structured_content
    if status["state"] == "running":
        number, text = status["note"].split(": ", 1)
        assert said["text"].startswith(text), number
    assert [moment for moment, _ in told] == sorted({moment for moment, _ in told}), "progress only grows"
    together = "".join(part for _, part in told)
    assert len(told) > 2
    assert said["text"].startswith(together)
    assert 0 < said["first_part_s"] < said["seconds"]
    parts = world.rows("SELECT payload FROM events WHERE type = 'model.part' AND stream = %s ORDER BY position", f"execution:{identity}")
    assert [part["number"] for (part,) in parts] == list(range(1, len(parts) + 1))
    lengths = [part["characters"] for (part,) in parts]
    assert lengths == sorted(set(lengths))
    assert len(together) in lengths
    assert not any(together[:20] in str(part) for (part,) in parts), "what it says is for its asker alone"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
async def test_cancelled_it_ends_on_the_server_too(house: Any, world: World, model: LlamaServer, pool: str) -> None:
    before = model.counted("tokens_predicted_total")
    async with house.client("ada") as ada, house.client("ada") as also_ada:
        late = (await ada.call_tool("federation_infer", {**STORY, "node": f"{pool}-{world.tag}", "wait_s": 0})).structured_content
        await until(model.busy)
        cancelled = (await also_ada.call_tool("federation_cancel_task", {"task_id": late["execution_id"]})).structured_content
        assert cancelled["state"] == "cancelled"
        await until(lambda: model.busy() == 0)
        assert model.counted("tokens_predicted_total") - before < STORY["max_tokens"] - 1
        # The place of the worker is free as well.
        again = {"prompt": "Hi", "max_tokens": 3, "node": f"{pool}-{world.tag}", "wait_s": 240}
        assert (await ada.call_tool("federation_infer", again)).data.text


async def test_talk_goes_on_with_what_was_said_before(house: Any, world: World) -> None:
    before = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada!"}]
    asked = {"prompt": "What is my name?", "messages": before, "max_tokens": 20, "role": "developer", "wait_s": 240}
    async with house.client("ada") as ada:
        said = (await ada.call_tool("federation_infer", asked)).data
        alone = (await ada.call_tool("federation_infer", {**asked, "messages": []})).data
    assert said.prompt_tokens > alone.prompt_tokens + 10
    [(kwargs,)] = world.rows("SELECT kwargs FROM executions WHERE id = %s", str(said.execution_id))
    system, *rest = kwargs["messages"]
    assert system["content"].startswith("You are the Developer")
    assert rest == [*before, {"role": "user", "content": "What is my name?"}]


async def test_text_is_gone_on_with_and_stops(house: Any) -> None:
    counting = {"prompt": "One, two, three, four,", "mode": "completion", "max_tokens": 24, "wait_s": 240}
    async with house.client("ada") as ada:
        assert "five" in (await ada.call_tool("federation_infer", counting)).data.text
        stopped = (await ada.call_tool("federation_infer", {**counting, "stop": ["six"]})).data
        assert (stopped.finish_reason, "six" in stopped.text) == ("stop", False)
        with pytest.raises(ToolError, match="mode: got 'completion', wants a prompt alone"):
            await ada.call_tool("federation_infer", {**counting, "system": "Count."})


async def test_answer_has_the_form_of_a_schema_or_is_an_error(house: Any, world: World) -> None:
    schema = {"type": "object", "properties": {"wet": {"type": "boolean"}}, "required": ["wet"], "additionalProperties": False}
    asked = {"prompt": "Is water wet?", "schema": schema, "wait_s": 240}
    async with house.client("ada") as ada:
        said = (await ada.call_tool("federation_infer", asked)).structured_content
        assert said["data"] in ({"wet": True}, {"wet": False})
        [(parameters,)] = world.rows("SELECT parameters FROM model_runs WHERE execution_id = %s", said["execution_id"])
        assert parameters["schema"] == schema
        said = (await ada.call_tool("federation_infer", {**asked, "prompt": "What is the capital of France?", "schema": {}})).structured_content
        assert said["data"] == json.loads(said["text"])
        [(parameters,)] = world.rows("SELECT parameters FROM model_runs WHERE execution_id = %s", said["execution_id"])
        assert parameters["schema"] == {}
        with pytest.raises(ToolError, match=r"the answer is not JSON .*more max_tokens may help"):
            await ada.call_tool("federation_infer", {**asked, "max_tokens": 2})
        with pytest.raises(ToolError, match="no regular expressions"):
            await ada.call_tool("federation_infer", {**asked, "schema": {"type": "string", "pattern": "(a+)+$"}})


async def test_prompt_over_the_window_is_refused_with_both_numbers(house: Any) -> None:
    async with house.client("ada") as ada:
        with pytest.raises(ToolError, match=r"the text has \d+ tokens and the model's window is 512; shorten it"):
            await ada.call_tool("federation_infer", {"prompt": "word " * 900, "wait_s": 240})


async def test_answer_is_remembered_with_its_question_where_that_is_asked_for_and_it_is_good_enough(house: Any, world: World) -> None:
    question = "What is the capital of France?"
    async with house.client("bob") as bob, house.client("ada") as ada:
        answer = (await bob.call_tool("federation_infer", {"prompt": question, "max_tokens": 64, "remember": True, "wait_s": 240})).structured_content
        cut_off = (await bob.call_tool("federation_infer", {**STORY, "max_tokens": 3, "remember": True})).structured_content
        plain = (await bob.call_tool("federation_infer", {"prompt": question, "max_tokens": 64, "wait_s": 240})).structured_content
        kept = (await bob.call_tool("federation_recall", {})).structured_content["memories"]
        others = (await ada.call_tool("federation_recall", {})).structured_content["memories"]
    assert "Paris" in answer["text"]
    assert [each["content"] for each in kept] == [f"Asked: {question}\nAnswered by {answer['model']}: {answer['text'].strip()}"]
    assert (kept[0]["memory_id"], kept[0]["visibility"]) == (answer["memory_id"], "nobody")
    assert (cut_off["memory_id"], cut_off["note"]) == (None, "not remembered: the answer was cut off by max_tokens")
    assert (plain["memory_id"], others) == (None, [])
