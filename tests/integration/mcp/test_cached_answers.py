"""federation_infer with a cache: a node with the real MiniLM and SmolLM2 gives an answer again to nearly the same question, and says so."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastmcp.exceptions import ToolError

from federation.services import agents, cached_answers, messages
from federation.settings import Settings
from tests.integration.world import World

pytestmark = pytest.mark.anyio

QUESTION = "What is the capital of France? Answer in one word."
NEARLY = "Please tell me what the capital of France is! Answer in one word."
ROOM = "geography"
HERE: dict[str, Any] = {"cache": True, "conversation_id": ROOM, "max_tokens": 12, "wait_s": 240}


@pytest.fixture(scope="module")
def world(postgres: Any, activemq: Any, stock: Any, watch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    postgres.start()
    activemq.start()
    with stock.lend() as owner_url, pytest.MonkeyPatch.context() as patch:
        # Of the door, which is in this process.
        patch.setattr(cached_answers, "settings", lambda: Settings(cached_answers=50))
        app, service = (postgres.as_role(role, owner_url) for role in ("federation_app", "federation_service"))
        made = World(tmp_path_factory.mktemp("world"), owner_url=owner_url, database_url=app, service_url=service, broker=activemq)
        able = made.node("able", pool="threads", engines=["llamacpp", "minilm"], models=["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"])
        made.worker(able, FEDERATION_CACHED_ANSWERS="50")
        try:
            yield made
        finally:
            made.close()
        assert watch.flaws(owner_url) == []


@pytest.fixture(scope="module")
def house(world: World, serve: Any) -> Iterator[Any]:
    with world.transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in {"ada": "lead", "bob": "developer", "dan": "developer"}.items()}
    with world.transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id=ROOM, to="bob")
    with serve(world.transactions, world.database_url, tokens) as opened:
        yield opened


async def ask(house: Any, who: str, prompt: str, **more: Any) -> dict[str, Any]:
    given = {name: value for name, value in {"prompt": prompt, **HERE, **more}.items() if value is not None}
    async with house.client(who) as client:
        return (await client.call_tool("federation_infer", given)).structured_content


@pytest.fixture(scope="module")
def first(house: Any) -> dict[str, Any]:
    """What a model answered when it was first asked."""
    return asyncio.run(ask(house, "ada", QUESTION))


def way(said: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["name"], step["outcome"]) for step in said["route"]]


async def test_nearly_the_same_of_another_member_is_answered_as_before_and_marked_so(house: Any, world: World, first: dict[str, Any]) -> None:
    assert (first["cached"], way(first)) == (None, [("cache", "missed"), ("llamacpp", "answered")])
    assert first["completion_tokens"] > 0
    said = await ask(house, "bob", NEARLY)
    assert (said["text"], said["model"], said["model_digest"]) == (first["text"], first["model"], first["model_digest"])
    assert (said["cached"]["execution_id"], said["cached"]["by"]) == (first["execution_id"], "ada")
    assert 0.9 <= said["cached"]["similarity"] < 1
    assert said["cached"]["age_s"] > 0
    assert (said["prompt_tokens"], said["completion_tokens"], way(said)) == (0, 0, [("cache", "cached")])
    assert said["route"][0]["why"] == "ada asked nearly the same before, and no model was asked"
    [run] = world.rows("SELECT completion, cached, route, completion_tokens, actor FROM model_runs WHERE execution_id = %s", said["execution_id"])
    assert run == (first["text"], said["cached"], said["route"], 0, "bob")
    query = "SELECT type, payload FROM events WHERE stream = %s AND split_part(type, '.', 1) IN ('model', 'answer')"
    told = world.rows(query, f"execution:{said['execution_id']}")
    assert [(kind, payload["cached"]) for kind, payload in told] == [("answer.reused", said["cached"])]
    # What was given again is not kept itself: the same leads to what a model said, and to nothing between.
    again = await ask(house, "bob", NEARLY)
    assert again["cached"]["execution_id"] == first["execution_id"]


async def test_the_answer_is_read_later_with_its_mark(house: Any, first: dict[str, Any]) -> None:
    late = await ask(house, "bob", QUESTION, wait_s=0)
    async with house.client("bob") as bob:
        said = (await bob.call_tool("federation_task_result", {"task_id": late["execution_id"], "wait_s": 240})).structured_content
    assert said["result"]["cached"]["execution_id"] == first["execution_id"]


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("What is the capital of Spain? Answer in one word.", {}),
    ("What is the capital of France? Answer in two words.", {}),
    ("What is not the capital of France? Answer in one word.", {}),
    (QUESTION, {"system": "Answer in French."}),
    (QUESTION, {"max_tokens": 11}),
    (QUESTION, {"conversation_id": None}),
    (QUESTION, {"cache": False, "conversation_id": None}),
    (QUESTION, {"temperature": 0.5}),
    (QUESTION, {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello."}]}),
    ("Count up. " + "word " * 260, {}),
]


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(("prompt", "more"), OTHERS, ids=[str(number) for number in range(len(OTHERS))])
async def test_what_is_another_question_is_asked_of_the_model(house: Any, prompt: str, more: dict[str, Any]) -> None:
    said = await ask(house, "ada", prompt, **more)
    assert (said["cached"], way(said)[-1]) == (None, ("llamacpp", "answered"))
    assert said["prompt_tokens"] > 0


@pytest.mark.usefixtures("first")
async def test_a_stranger_neither_asks_there_nor_has_the_answer(house: Any) -> None:
    with pytest.raises(ToolError, match=f"no conversation '{ROOM}'"):
        await ask(house, "dan", QUESTION)
    said = await ask(house, "dan", QUESTION, conversation_id=None)
    assert (said["cached"], way(said)) == (None, [("cache", "missed"), ("llamacpp", "answered")])


async def test_what_was_cut_off_or_is_too_long_is_not_kept(house: Any, world: World) -> None:
    cut = {"prompt": "Tell me a long story about the sea.", "max_tokens": 8}
    said = [await ask(house, "ada", **cut) for _ in range(2)]
    assert [(each["cached"], each["finish_reason"]) for each in said] == [(None, "length")] * 2
    long = await ask(house, "ada", "Is this long? " + "word " * 260)
    assert "the text has" in long["route"][0]["why"]
    assert "window is 256" in long["route"][0]["why"]
    ids = [each["execution_id"] for each in (*said, long)]
    assert world.rows("SELECT execution_id FROM cached_answers WHERE execution_id = ANY(%s::uuid[])", ids) == []


async def test_an_answer_of_other_weights_is_not_given_again(house: Any, world: World) -> None:
    prompt = {"prompt": QUESTION, "seed": 7}
    before = await ask(house, "ada", **prompt)
    assert (await ask(house, "ada", **prompt))["cached"]["execution_id"] == before["execution_id"]
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE cached_answers SET model_digest = 'another' WHERE execution_id = %s", [before["execution_id"]])
    now = await ask(house, "ada", **prompt)
    assert (now["cached"], way(now)) == (None, [("cache", "missed"), ("llamacpp", "answered")])
    assert (await ask(house, "ada", **prompt))["cached"]["execution_id"] == now["execution_id"]
