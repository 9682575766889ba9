"""The pure parts of delivery: envelope, breaker, what a machine lacks, log lines."""

import json
import logging
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from federation.delivery import envelope, logs
from federation.delivery.breaker import Breaker
from federation.delivery.envelope import Envelope, canonical_bytes
from federation.delivery.machine import Machine, compare
from federation.placement.node_file import Gpus, NodeFile
from federation.placement.requirements import Requirements

envelopes = st.builds(
    Envelope,
    actor=st.text(min_size=1, max_size=20),
    trace_id=st.text(alphabet="0123456789abcdef", min_size=32, max_size=32),
    requirements=st.builds(Requirements, role=st.none() | st.text(max_size=5), tags=st.lists(st.text(max_size=5), max_size=3).map(tuple)),
    signature=st.none() | st.text(max_size=10),
)


@given(envelopes)
def test_envelope_survives_a_header(sent: Envelope) -> None:
    assert envelope.read(json.loads(json.dumps(sent.header()))) == sent


@given(envelopes, st.binary(max_size=20), st.integers(0, 3))
def test_canonical_bytes_bind_everything_but_the_signature(sent: Envelope, body: bytes, retries: int) -> None:
    identity = uuid.uuid4()

    def over(given_envelope: Envelope, *, task: str = "a", number: int = retries, payload: bytes = body) -> bytes:
        return canonical_bytes(given_envelope, task_name=task, execution_id=identity, retries=number, body=payload)

    signed = over(sent)
    assert signed == over(sent.model_copy(update={"signature": "other"}))
    assert signed != over(sent.model_copy(update={"actor": sent.actor + "x"}))
    assert signed != over(sent.model_copy(update={"requirements": Requirements(node="elsewhere")}))
    assert signed != over(sent, task="b")
    assert signed != over(sent, number=retries + 1)
    assert signed != over(sent, payload=body + b"x")


@pytest.mark.parametrize("header", [None, "text", {}, {"version": 2, "actor": "a", "trace_id": "b"}, {"actor": "a", "trace_id": "b", "more": 1}])
def test_header_that_is_no_envelope_is_refused(header: object) -> None:
    with pytest.raises(ValidationError):
        envelope.read(header)  # type: ignore[arg-type]


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
    assert (has.tags, has.missing) == (("artifacts",), ("tag frag: LanceDB is not installed",))


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
