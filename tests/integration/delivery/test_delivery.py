"""At least once, effects once: killed workers, poison, malformed messages, and servers that go away."""

import json
import os
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import SecretStr

from federation.delivery.app import make
from federation.delivery.publisher import CeleryPublisher
from federation.delivery.sending import send
from federation.errors import TransientError
from federation.settings import Settings
from federation.store import outbox
from federation.transaction import Transactions

World = Any


def stomp(world: World, *frames: bytes) -> None:
    """Send frames as any plain STOMP client would, and wait until the broker has read them."""
    url = urlsplit(world.broker_url)
    login = f"login:{unquote(url.username or '')}\npasscode:{unquote(url.password or '')}\n"
    with socket.create_connection((url.hostname, url.port), timeout=60) as line:
        line.sendall(f"CONNECT\naccept-version:1.2\nhost:x\n{login}\n\0\n".encode())
        for frame in frames:
            line.sendall(frame)
        line.sendall(b"DISCONNECT\nreceipt:bye\n\n\0")
        answer = b""
        while b"RECEIPT" not in answer:
            part = line.recv(65536)
            assert part, answer
            answer += part


def task_message(name: str, **headers: Any) -> dict[str, Any]:
    return {"task": name, "id": str(uuid.uuid4()), "lang": "py", **headers}


def test_malformed_messages_are_put_aside_and_the_worker_goes_on(calm: World) -> None:
    world, node = calm, calm.calm_node
    [(before,)] = world.rows("SELECT clock_timestamp()")
    destination = world.destination(node).encode()
    stomp(
        world,
        b"SEND\ndestination:" + destination + b"\n\nhello, is this a queue?\0",
        b"SEND\ndestination:" + destination + b"\ntask:tests.where\nid:no-uuid\ncontent-length:6\n\n\xff\x00\xfe{}\x80\0",
    )
    good = json.dumps([[], {}, {}]).encode()
    world.publish_raw(node, good, task_message("no.such.task"))
    world.publish_raw(node, b"{not json", task_message("tests.where"))
    world.publish_raw(node, b'{"a": 1}', task_message("tests.where"))
    world.publish_raw(node, b"cos\nsystem\n", task_message("tests.where"), content_type="application/x-python-serialize", content_encoding="binary")
    world.publish_raw(node, good, task_message("tests.where", eta="soon"))
    world.publish_raw(node, good, task_message("tests.where", federation={"version": 7}))
    world.publish_raw(node, good, {"task": "tests.where"})
    put_aside = "SELECT reason, queue, body FROM quarantine WHERE created_at > %s"
    world.until(lambda: len(world.rows(put_aside, before)) >= 9, "nine messages are put aside")
    reasons = sorted(row[0] for row in world.rows(put_aside, before))
    assert len(reasons) == 9
    for part in ("unknown task 'no.such.task'", "[args, kwargs, embed]", "header `eta`", "header `federation`", "no header `id`", "cannot be read"):
        assert any(part in reason for reason in reasons), (part, reasons)
    assert {row[1] for row in world.rows(put_aside, before)} == {node}
    assert b"hello, is this a queue?" in [row[2] for row in world.rows(put_aside, before)]
    assert world.result(world.record("tests.where"))["node"] == node
    assert world.rows("SELECT count(*) FROM events WHERE type = 'execution.quarantined' AND created_at > %s", before) == [(9,)]


def test_caller_of_a_task_that_no_worker_has_learns_it(calm: World) -> None:
    world = calm
    identity = world.record("tests.from.the.future")
    with pytest.raises(Exception, match=r"unknown task 'tests\.from\.the\.future'"):
        world.result(identity)
    assert world.state(identity).state == "quarantined"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_killed_execution_is_finished_by_another_delivery_with_one_effect(world: World, pool: str) -> None:
    node = world.node("mortal", pool=pool, concurrency=1)
    first = world.worker(node)
    started, go = world.folder / "started", world.folder / "go"
    identity = world.record("tests.effect", {"started": str(started), "go": str(go)})
    world.until(started.exists, "the execution runs")
    killed = int(started.read_text())
    started.unlink()
    os.kill(killed, signal.SIGKILL)
    if pool == "threads":
        assert killed == first.pid
        first.wait()
        world.worker(node)
    world.until(started.exists, "it runs again")
    go.touch()
    result = world.result(identity)
    assert result["first"] is False
    assert result["pid"] != killed
    assert world.rows("SELECT key, value->>'pid' FROM execution_effects") == [("effect", str(killed))]
    deliveries = world.rows("SELECT number, pid, redelivered FROM execution_deliveries ORDER BY number")
    assert deliveries == [(1, killed, False), (2, result["pid"], True)]
    assert world.state(identity).deliveries == 2


def test_poison_is_quarantined_after_the_limit_and_fails_its_task(world: World) -> None:
    node = world.node("victim", pool="prefork", concurrency=1)
    world.worker(node, FEDERATION_MAX_DELIVERIES="1")
    identity = world.record("tests.poison")
    with pytest.raises(Exception, match="delivered 2 times without an end"):
        world.result(identity)
    view = world.state(identity)
    assert (view.state, view.deliveries) == ("quarantined", 2)
    [(reason, story)] = world.rows("SELECT reason, headers->'deliveries' FROM quarantine WHERE execution_id = %s", identity)
    assert reason.startswith("delivered 2 times")
    assert [told["number"] for told in story] == [1, 2]
    assert len({told["pid"] for told in story}) == 2
    assert world.result(world.record("tests.where"))["node"] == node


def test_execution_that_is_sent_twice_runs_once(calm: World) -> None:
    world, node = calm, calm.calm_node
    identity = world.record("tests.where", {"n": 1})
    result = world.result(identity)
    envelope = {"version": 1, "actor": "tester", "trace_id": "0" * 32}
    send(world.app, "tests.where", {"n": 2}, execution_id=identity, queue=node, headers={"federation": envelope})
    world.until(lambda: world.state(identity).deliveries == 2, "the second delivery is counted")
    assert world.result(world.record("tests.where", {"n": 3}))["n"] == 3
    assert world.result(identity) == result


def test_two_messages_of_one_execution_that_run_side_by_side_have_one_effect_and_one_result(calm: World) -> None:
    world = calm
    go = world.folder / "go-together"
    kwargs = {"started": str(world.folder / "started-together"), "go": str(go)}
    identity = world.record("tests.effect", kwargs)
    envelope = {"version": 1, "actor": "tester", "trace_id": "0" * 32}
    send(world.app, "tests.effect", kwargs, execution_id=identity, queue=world.calm_node, headers={"federation": envelope})
    world.until(lambda: world.state(identity).deliveries == 2, "both run")
    assert world.state(identity).state == "running"
    go.touch()
    result = world.result(identity)
    world.until(lambda: world.size(world.destination(world.calm_node)).in_flight == 0, "both are settled")
    assert world.result(identity) == result
    assert world.rows("SELECT count(*) FROM execution_effects WHERE execution_id = %s", identity) == [(1,)]
    assert world.rows("SELECT redelivered FROM execution_deliveries WHERE execution_id = %s", identity) == [(False,), (False,)]


def test_transient_error_is_tried_again_and_is_no_redelivery(calm: World) -> None:
    world = calm
    identity = world.record("tests.flaky", {"failures": 2})
    assert world.result(identity) == 2
    assert [row[0] for row in world.rows("SELECT redelivered FROM execution_deliveries WHERE execution_id = %s", identity)] == [False] * 3


def test_next_try_waits_in_a_worker_and_is_done_by_another_where_that_dies(world: World) -> None:
    node, pause_s = world.node("patient"), 6.0
    worker = world.worker(node)
    identity, sent_at = world.record("tests.later", {"countdown": pause_s}), time.time()
    asked = world.app.control.inspect(timeout=60, limit=1)
    world.until(lambda: [one["request"]["id"] for held in (asked.scheduled() or {}).values() for one in held] == [str(identity)], "it waits there")
    assert world.size(world.destination(node)).in_flight == 1
    worker.kill()
    worker.wait()
    world.worker(node)
    assert float(world.result(identity)) >= sent_at + pause_s
    assert world.state(identity).deliveries == 2


def test_execution_whose_arguments_do_not_fit_its_task_is_put_aside_unrun_and_its_caller_learns_it(calm: World) -> None:
    identity = calm.record("tests.flaky", {"fails": 1})
    with pytest.raises(Exception, match=r"the arguments do not fit tests\.flaky: missing a required argument: 'failures'"):
        calm.result(identity)
    assert (calm.state(identity).state, calm.state(identity).deliveries) == ("quarantined", 0)


def test_execution_waits_until_a_capable_node_announces_itself(calm: World) -> None:
    world = calm
    identity = world.record("tests.where", min_vram_gib=24, tags=["frag"])
    view = world.state(identity)
    assert view.state == "unplaced"
    assert (
        view.waiting_for == "no live node has 1 GPU with 24 GiB (have: nothing; stale: none); no live node has tag=frag (have: nothing; stale: none)"
    )
    capable = world.node("capable", tags=["frag"], simulated=True, gpus={"count": 2, "vram_gib": 24, "kind": "RTX 3090"})
    process = world.worker(capable)
    assert world.result(identity)["node"] == capable
    world.stop(process)


def test_dead_broker_leaves_the_work_recorded_and_the_sweep_sends_it(calm: World, activemq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = calm
    world.result(world.record("tests.where"))
    activemq.kill()
    # The breaker opens for a second, which this process may need between its two statements.
    now = time.monotonic()
    monkeypatch.setattr(world.publisher._breaker, "_clock", lambda: now)
    first, second = (world.record("tests.where", {"n": n}) for n in range(2))
    assert world.state(first).state == "recorded"
    # The second did not wait for the dead broker too.
    assert world.rows("SELECT attempts, waiting_for FROM outbox ORDER BY created_at") == [(1, None), (0, None)]
    activemq.start()
    monkeypatch.undo()
    world.until(lambda: world.publisher.sweep() and not world.rows("SELECT 1 FROM outbox"), "the sweep sends both")
    assert [world.result(identity)["n"] for identity in (first, second)] == [0, 1]
    [(restarted,)] = world.rows("SELECT clock_timestamp()")
    world.until(lambda: world.rows("SELECT 1 FROM nodes WHERE name = %s AND last_seen_at > %s", world.calm_node, restarted), "signs of life go on")


def test_door_does_not_wait_long_for_a_broker_that_accepts_and_never_answers(calm: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = Settings(
            data_dir=calm.folder,
            broker_url=SecretStr(f"activemq://a:b@127.0.0.1:{silent.getsockname()[1]}/"),
            database_service_url=SecretStr(calm.service_url),
        )
        door = CeleryPublisher(make(lambda: given), calm.transactions.service, stale_s=60)
        with Transactions(calm.transactions.engine, door, service=calm.transactions.service).begin("tester") as session:
            identity = outbox.record(session, "tests.where", {})
    assert calm.state(identity).state == "recorded"
    calm.until(lambda: calm.publisher.sweep() == 1, "another publisher sends it")
    assert calm.result(identity)["node"] == calm.calm_node


def test_dead_database_pauses_the_worker_which_loses_nothing(calm: World, postgres: Any) -> None:
    world, node, process = calm, calm.calm_node, calm.calm_worker
    [(before,)] = world.rows("SELECT clock_timestamp()")
    identity = world.record("tests.where", {"n": 1})
    world.result(identity)
    postgres.kill()
    envelope = {"version": 1, "actor": "tester", "trace_id": "0" * 32}
    late = [uuid.uuid4() for _ in range(3)]
    for number, execution_id in enumerate(late):
        send(world.app, "tests.where", {"n": number}, execution_id=execution_id, queue=node, headers={"federation": envelope})
    stomp(world, b"SEND\ndestination:" + world.destination(node).encode() + b"\n\nnonsense\0")
    world.until(lambda: "consumer.paused" in world.log(node), "the worker pauses")
    with pytest.raises(TransientError):
        world.record("tests.where")
    postgres.start()
    results = [world.result(execution_id) for execution_id in late]
    assert [(result["n"], result["node"]) for result in results] == [(0, node), (1, node), (2, node)]
    world.until(lambda: world.rows("SELECT 1 FROM quarantine WHERE created_at > %s", before), "the malformed message is put aside after all")
    world.until(lambda: world.alive(node, process.pid), "the node gives signs of life")
    assert world.rows("SELECT count(*) FROM execution_deliveries WHERE execution_id = ANY(%s)", late)[0][0] >= 3
    assert Path(world.folder / f"{node}.log").read_text().count("consumer.paused") < 5
