"""The pure parts of delivery: breaker, what a machine lacks, log lines."""

import json
import logging

from federation.breaker import Breaker
from federation.delivery import logs
from federation.delivery.machine import Machine, compare
from federation.placement.node_file import Gpus, NodeFile


def test_breaker_opens_longer_each_time_and_closes_on_success() -> None:
    now = [0.0]
    breaker = Breaker(first_s=1, longest_s=4, clock=lambda: now[0])
    opened = []
    for _ in range(4):
        assert not breaker.is_open
        breaker.failed()
        start = now[0]
        while breaker.is_open:
            now[0] += 0.5
        opened.append(now[0] - start)
    assert opened == [1, 2, 4, 4]
    breaker.failed()
    breaker.succeeded()
    assert not breaker.is_open


def declared(**fields: object) -> NodeFile:
    base = {
        "name": "x",
        "role": "lead",
        "engines": ("minilm", "vllm"),
        "models": ("all-minilm-l6-v2", "qwen"),
        "gpus": Gpus(count=2, vram_gib=24, kind="RTX"),
    }
    return NodeFile.model_validate({**base, **fields})


def test_what_the_machine_lacks_is_dropped_and_named() -> None:
    machine = Machine(cards_gib=(23.99, 8.0), engines=frozenset({"minilm"}), models=frozenset({"all-MiniLM-L6-v2"}), vectors=False)
    has = compare(declared(), machine)
    assert [gpu.vram_gib for gpu in has.gpus] == [24]
    assert (has.engines, has.models) == (("minilm",), ("all-minilm-l6-v2",))
    assert has.missing == ("GPU RTX 24 GiB", "engine vllm", "model qwen")


def test_a_node_without_lancedb_does_not_hold_the_vectors() -> None:
    machine = Machine((), frozenset({"minilm", "vllm"}), frozenset({"all-MiniLM-L6-v2", "qwen"}), vectors=False)
    has = compare(declared(gpus=None, tags=("frag", "artifacts")), machine)
    assert (has.tags, has.missing) == (("artifacts",), ("tag frag: LanceDB or NumKong is not installed",))


def test_simulated_node_keeps_what_it_declares() -> None:
    has = compare(declared(simulated=True), Machine((), frozenset(), frozenset(), vectors=False))
    assert (len(has.gpus), has.engines, has.missing) == (2, ("minilm", "vllm"), ())


def test_log_line_carries_the_event_its_fields_and_the_trace() -> None:
    record = logging.makeLogRecord({"name": "federation", "levelname": "INFO", "levelno": 20, "msg": "outbox.deferred", "task_id": "7"})
    token = logs.trace.set("abc")
    try:
        assert logs.TextFormatter().format(record).endswith("INFO federation outbox.deferred task_id=7 trace_id=abc")
        line = json.loads(logs.JsonFormatter().format(record))
    finally:
        logs.trace.reset(token)
    assert (line["event"], line["task_id"], line["trace_id"]) == ("outbox.deferred", "7", "abc")
