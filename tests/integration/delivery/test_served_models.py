"""A node asks the model servers of its file: llama.cpp's real servers, one of which is killed; what is recorded says which it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.engines import smollm2
from federation.services import inference
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
