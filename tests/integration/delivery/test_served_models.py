"""A node asks the model servers of its file: llama.cpp's real servers, one of which is killed; what is recorded says which it was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.charter import charter_text
from federation.engines import smollm2
from federation.errors import InvalidInput
from federation.placement.ring import ring_of
from federation.services import agents, executions, inference, tasks
from tests.model_servers import MODEL, LlamaServer, llama_server

World = Any


@pytest.fixture
def big(tmp_path: Path) -> Iterator[LlamaServer]:
    with llama_server(tmp_path, name="big", model="Big-7B") as started:
        yield started


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LlamaServer]:
    with llama_server(tmp_path, name="small") as started:
        yield started


def answered(world: World, **needs: Any) -> Any:
    with world.transactions.begin("tester") as session:
        identity = inference.request(session, "What is the capital of France?", max_tokens=16, requirements=needs)
    return world.result(identity)


def way(answer: Any) -> list[tuple[str, str]]:
    return [(step["name"], step["outcome"]) for step in answer["route"]]


def test_node_announces_its_servers_asks_them_in_order_and_records_who_answered(world: World, big: LlamaServer, small: LlamaServer) -> None:
    node = world.node("served", servers=[big.entry, small.entry])
    world.worker(node)
    [(engines, models, missing)] = world.rows("SELECT engines, models, missing FROM nodes WHERE name = %s", node)
    assert (engines, models, missing) == (["openai"], ["Big-7B", MODEL], [])
    first = answered(world)
    assert "Paris" in first["text"]
    assert (first["model"], way(first)) == ("Big-7B", [("big", "answered")])
    assert way(answered(world, model=MODEL.lower())) == [("small", "answered")]
    big.kill()
    second = answered(world)
    assert (second["model"], way(second)) == (MODEL, [("big", "failed"), ("small", "answered")])
    assert "Connection refused" in second["route"][0]["why"]
    runs = world.rows("SELECT engine, model, model_digest, route, first_part_s < seconds AND first_part_s > 0 FROM model_runs ORDER BY created_at")
    assert [(run[0], run[1], run[2], run[4]) for run in runs] == [
        ("openai", name, smollm2.checked().digest, True) for name in ("Big-7B", MODEL, MODEL)
    ]
    assert runs[-1][3] == second["route"]
    assert {told["remote"] for (told,) in world.rows("SELECT payload FROM events WHERE type = 'model.ran'")} == {False}


def test_what_no_server_answers_now_is_answered_when_one_comes(world: World, tmp_path: Path) -> None:
    late = LlamaServer(tmp_path, name="late")
    world.worker(world.node("waiting", servers=[late.entry]))
    with world.transactions.begin("tester") as session:
        identity = inference.request(session, "What is the capital of France?", max_tokens=16)
    world.until(lambda: world.rows("SELECT 1 FROM celery_results WHERE task_id = %s AND state = 'RETRY'", str(identity)), "it is tried in vain")
    try:
        late.start()
        assert "Paris" in world.result(identity)["text"]
    finally:
        late.kill()


@pytest.mark.parametrize("allowed", [False, True])
def test_server_on_another_machine_is_asked_only_where_a_setting_says_so(world: World, small: LlamaServer, allowed: bool) -> None:
    # Of this machine, and not of its loopback by name.
    elsewhere = {**small.entry, "name": "elsewhere", "model": "Elsewhere-1B", "url": "http://192.0.2.7:9"}
    node = world.node("guarded", servers=[elsewhere, small.entry])
    world.worker(node, FEDERATION_REMOTE_MODELS=str(allowed).lower())
    [(models, missing)] = world.rows("SELECT models, missing FROM nodes WHERE name = %s", node)
    told = "model server elsewhere: it is on another machine, and FEDERATION_REMOTE_MODELS is not true"
    assert (models, missing) == ((["Elsewhere-1B", MODEL], []) if allowed else ([MODEL], ["model Elsewhere-1B", told]))
    if not allowed:
        assert way(answered(world)) == [("small", "answered")]


def test_each_role_is_answered_by_the_model_of_its_nodes(world: World, big: LlamaServer, small: LlamaServer) -> None:
    world.worker(world.node("leading", role="lead", servers=[big.entry]))
    world.worker(world.node("building", role="developer", servers=[small.entry]))
    assert [answered(world, role=role)["model"] for role in ("lead", "developer", "lead")] == ["Big-7B", MODEL, "Big-7B"]


def test_receipt_says_for_which_role_the_charter_chose_the_model(
    world: World, big: LlamaServer, small: LlamaServer, chartered: Callable[[str], None]
) -> None:
    world.worker(world.node("both", servers=[big.entry, small.entry]))
    chartered(charter_text().replace("[roles.developer]", f'[roles.developer]\nmodel = "{MODEL}"'))
    assert [step["why"] for step in answered(world)["route"]] == ["it is the first of the list"]
    answer = answered(world, role="developer")
    assert (answer["model"], [step["why"] for step in answer["route"]]) == (MODEL, ["the model of role developer: it is the first of the list"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[LlamaServer]:
    with llama_server(tmp_path, name="here") as started:
        yield started


@pytest.fixture
def there(tmp_path: Path) -> Iterator[LlamaServer]:
    with llama_server(tmp_path, name="there") as started:
        yield started


@pytest.fixture
def pair(world: World, here: LlamaServer, there: LlamaServer) -> tuple[str, str]:
    """Two nodes with one model, each with a server of its own."""
    first, second = (world.node(name, servers=[server.entry]) for name, server in (("first", here), ("second", there)))
    for node in (first, second):
        world.worker(node)
    return first, second


def question_for(first: str, second: str) -> str:
    """Return a question whose beginning is at home on the first node."""
    for number in range(100):
        prompt = f"Question {number}: What is the capital of France?"
        turns = [{"content": inference.DEFAULT_PROMPT}, {"content": prompt}]
        if next(ring_of((first, second)).walk(inference.affinity(None, turns), skip=0)) == first:
            return prompt
    raise AssertionError("all at home on one of two nodes")


def ask(world: World, prompt: str, **needs: Any) -> Any:
    with world.transactions.begin("tester") as session:
        return inference.request(session, prompt, max_tokens=16, requirements=needs)


def asked(answer: Any) -> list[tuple[str, str, str]]:
    return [(step["node"], step["name"], step["outcome"]) for step in answer["route"]]


def test_what_no_server_of_a_node_answers_is_asked_of_another_node_at_once(world: World, pair: tuple[str, str], here: LlamaServer) -> None:
    first, second = pair
    prompt = question_for(first, second)
    assert asked(world.result(ask(world, prompt))) == [(first, "here", "answered")]
    here.kill()
    identity = ask(world, prompt)
    answer = world.result(identity)
    assert "Paris" in answer["text"]
    assert (answer["node"], asked(answer)) == (second, [(first, "here", "failed"), (second, "there", "answered")])
    assert world.rows("SELECT node FROM executions WHERE id = %s", identity) == [(second,)]
    told = "SELECT actor, payload ->> 'from', payload ->> 'to' FROM events WHERE type = 'execution.moved' AND stream = %s"
    assert world.rows(told, f"execution:{identity}") == [(f"node:{first}", first, second)]
    # Whose server rests is not asked for the next one either.
    assert asked(world.result(ask(world, prompt)))[-1] == (second, "there", "answered")


def test_question_of_a_node_stays_with_it(world: World, pair: tuple[str, str], here: LlamaServer) -> None:
    first, second = pair
    here.kill()
    identity = ask(world, question_for(first, second), node=first)
    retried = "SELECT 1 FROM celery_results WHERE task_id = %s AND state = 'RETRY'"
    world.until(lambda: world.rows(retried, str(identity)), "it is tried in vain")
    here.start()
    assert {node for node, _, _ in asked(world.result(identity))} == {first}


def test_where_no_node_answers_each_is_asked_once_before_a_pause_and_whoever_comes_back_answers(
    world: World, pair: tuple[str, str], here: LlamaServer, there: LlamaServer
) -> None:
    first, second = pair
    here.kill()
    there.kill()
    identity = ask(world, question_for(first, second))
    deliveries = "SELECT actor, retries FROM execution_deliveries WHERE execution_id = %s ORDER BY number"
    # Of three the last one comes after the pause, on the node where the first round ended.
    found = world.until(lambda: len(rows := world.rows(deliveries, identity)) >= 4 and rows, "it is tried again on both")
    assert [actor.removeprefix("node:") for actor, _ in found[:4]] == [first, second, second, first]
    assert [retries for _, retries in found[:4]] == [0, 1, 2, 3]
    here.start()
    answer = world.result(identity)
    assert (answer["node"], answer["route"][-1]["name"]) == (first, "here")
    # What became of the round before is not told again.
    assert len({node for node, _, outcome in asked(answer) if outcome == "answered"}) == 1
    assert len(answer["route"]) <= 4


def delegated(world: World, **terms: Any) -> Any:
    """Delegate, as a lead, a question to a node, and return the execution and the task's result."""
    with world.transactions.begin("cli:tester") as session:
        if not world.rows("SELECT 1 FROM agents WHERE name = 'ada'"):
            agents.add(session, "ada", "lead")
    with world.transactions.begin("ada") as session:
        task = tasks.delegate(session, "What is the capital of France?", executor="node", **terms)
        [identity] = executions.of_task(session, task.id)
    return identity, world.result(identity)


def test_task_that_a_node_does_asks_the_model_of_its_role(
    world: World, big: LlamaServer, small: LlamaServer, chartered: Callable[[str], None]
) -> None:
    world.worker(world.node("both", servers=[big.entry, small.entry]))
    chartered(charter_text().replace("[roles.developer]", f'[roles.developer]\nmodel = "{MODEL}"'))
    _, asked_by_a_lead = delegated(world)
    assert (asked_by_a_lead["model"], [step["why"] for step in asked_by_a_lead["route"]]) == ("Big-7B", ["it is the first of the list"])
    _, of_developer = delegated(world, requirements={"role": "developer"})
    assert [(step["model"], step["why"]) for step in of_developer["route"]] == [(MODEL, "the model of role developer: it is the first of the list")]
    _, named = delegated(world, requirements={"role": "developer", "model": "Big-7B"})
    assert [step["model"] for step in named["route"]] == ["Big-7B"]
    chartered(charter_text().replace(f'model = "{MODEL}"', 'model = "Nowhere-70B"'))
    with pytest.raises(InvalidInput, match=r"wants in \[roles.developer\] of the charter a model that a node has"):
        delegated(world, requirements={"role": "developer"})


def test_task_of_a_node_whose_models_do_not_answer_is_done_by_another_node(
    world: World, pair: tuple[str, str], here: LlamaServer, tmp_path: Path
) -> None:
    first, second = pair
    started, go = tmp_path / "started", tmp_path / "go"
    # So that the first has less to do.
    world.record("tests.effect", {"started": str(started), "go": str(go)}, node=second)
    world.until(started.exists, "the second node is busy")
    here.kill()
    try:
        identity, result = delegated(world)
    finally:
        go.touch()
    assert result["text"]
    assert (result["node"], asked(result)) == (second, [(first, "here", "failed"), (second, "there", "answered")])
    assert world.rows("SELECT status, assigned_to FROM agent_tasks") == [("completed", second)]
    assert world.rows("SELECT count(*) FROM model_runs WHERE execution_id = %s", identity) == [(1,)]
