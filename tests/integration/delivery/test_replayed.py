"""What somebody sends again who had the message does not run after its end, and fails nothing that runs; what truly comes again is finished."""

import os
import signal
from typing import Any

import pytest

from federation.store import event_log, outbox
from tests.integration.delivery.forging import entry, put, put_marked, signed, unsigned

World = Any
DELIVERIES = "SELECT worker, redelivered, message_id FROM execution_deliveries WHERE execution_id = %s ORDER BY number"


@pytest.mark.parametrize("enveloped", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_a_finished_one_that_is_sent_again_is_not_run(calm: World, enveloped: bool, fails: bool) -> None:
    kwargs: dict[str, Any] = {"how": "memory"} if fails else {"n": 1}
    sent = signed(calm, unsigned(calm, "tests.breaks_off" if fails else "tests.where", kwargs=kwargs, enveloped=enveloped))
    put(calm, sent)
    calm.until(lambda: calm.app.AsyncResult(str(sent.id)).ready(), "it has its result")
    before = calm.rows("SELECT state, result, date_done FROM celery_results WHERE task_id = %s", str(sent.id))
    put(calm, sent)
    reason, execution_id, _ = entry(calm, sent.id)
    assert "sent again after its end" in reason
    assert execution_id is None
    assert calm.rows("SELECT state, result, date_done FROM celery_results WHERE task_id = %s", str(sent.id)) == before


def test_a_finished_one_that_we_send_twice_ourselves_is_settled_and_not_put_aside(calm: World) -> None:
    """As it is where the commit after the sending is lost, so that the next sweep sends it again."""
    identity = calm.record("tests.where", role="lead")
    assert calm.result(identity)
    with calm.transactions.begin("service:beat") as session:
        outbox.put_back(session, identity, None)
        event_log.append(session, "execution.moved", f"execution:{identity}", payload={"from": calm.calm_node, "to": None})
    calm.publisher.sweep()
    deliveries = "SELECT 1 FROM execution_deliveries WHERE execution_id = %s"
    calm.until(lambda: len(calm.rows(deliveries, identity)) == 2, "it is delivered again")
    calm.until(lambda: calm.size(calm.destination(calm.calm_node)).in_flight == 0, "it is settled")
    assert calm.rows("SELECT 1 FROM quarantine WHERE headers ->> 'id' = %s", str(identity)) == []
    assert calm.state(identity).state == "completed"


@pytest.mark.parametrize("fails", [False, True])
def test_a_finished_one_that_pretends_to_be_the_brokers_is_put_aside_too(calm: World, fails: bool) -> None:
    """Whoever writes to a queue may write the transport's mark of a redelivery."""
    kwargs: dict[str, Any] = {"how": "memory"} if fails else {"n": 1}
    sent = signed(calm, unsigned(calm, "tests.breaks_off" if fails else "tests.where", kwargs=kwargs))
    put(calm, sent)
    calm.until(lambda: calm.app.AsyncResult(str(sent.id)).ready(), "it has its result")
    before = calm.rows("SELECT state, result FROM celery_results WHERE task_id = %s", str(sent.id))
    put_marked(calm, sent, calm.calm_node)
    reason, execution_id, _ = entry(calm, sent.id)
    assert "sent again after its end" in reason
    assert execution_id is None
    calm.until(lambda: calm.size(calm.destination(calm.calm_node)).in_flight == 0, "it is settled")
    assert calm.rows("SELECT state, result FROM celery_results WHERE task_id = %s", str(sent.id)) == before


def test_copies_of_one_that_runs_do_not_fail_it(world: World) -> None:
    node = world.node("copied", concurrency=4)
    world.worker(node, FEDERATION_MAX_DELIVERIES="1")
    started, go = world.folder / "started", world.folder / "go"
    sent = signed(world, unsigned(world, "tests.effect", kwargs={"started": str(started), "go": str(go)}))
    put(world, sent, node)
    world.until(started.exists, "it runs")
    for _ in range(3):
        put_marked(world, sent, node)
    deliveries = "SELECT redelivered FROM execution_deliveries WHERE execution_id = %s"
    world.until(lambda: len(world.rows(deliveries, sent.id)) == 4, "the copies are delivered")
    assert world.rows(deliveries, sent.id) == [(False,)] * 4
    go.touch()
    world.result(sent.id)
    world.until(lambda: world.size(world.destination(node)).in_flight == 0, "all are settled")
    assert world.app.AsyncResult(str(sent.id)).state == "SUCCESS"
    assert world.rows("SELECT 1 FROM quarantine") == []
    assert world.rows("SELECT count(*) FROM execution_effects WHERE execution_id = %s", sent.id) == [(1,)]


def test_an_earlier_try_that_is_sent_again_after_a_later_one_is_not_run(calm: World) -> None:
    sent = signed(calm, unsigned(calm, "tests.flaky", kwargs={"failures": 1}))
    put(calm, sent)
    assert calm.result(sent.id) == 1
    put(calm, sent)
    assert "sent again after its end" in entry(calm, sent.id)[0]
    assert calm.result(sent.id) == 1


def test_a_message_that_comes_again_after_the_death_of_worker_and_broker_is_the_same_and_finished(world: World, activemq: Any) -> None:
    node = world.node("mortal", pool="threads", concurrency=1)
    worker = world.worker(node)
    started, go = world.folder / "started", world.folder / "go"
    sent = signed(world, unsigned(world, "tests.effect", kwargs={"started": str(started), "go": str(go)}))
    put(world, sent, node)
    world.until(started.exists, "it runs")
    started.unlink()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker = world.worker(node)
    world.until(started.exists, "it runs again")
    started.unlink()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    activemq.kill()
    activemq.start()
    world.worker(node)
    world.until(started.exists, "it runs once more")
    go.touch()
    assert world.result(sent.id)["first"] is False
    told = world.rows(DELIVERIES, sent.id)
    assert len({message_id for _, _, message_id in told}) == 1, "ActiveMQ calls it as before, after its own death too"
    # Which of them it had delivered, it has forgotten then.
    assert [repeated for _, repeated, _ in told] == [False, True, False]
    assert world.rows("SELECT 1 FROM quarantine") == []
