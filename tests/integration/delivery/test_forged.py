"""What is forged, altered, misdirected or sent again is not run and is put aside with its reason; what is vouched for runs, wherever it was moved."""

import json
import pickle
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature

from federation.broker.envelope import pack
from federation.broker.frames import encode
from federation.delivery.app import QUEUE_PREFIX
from federation.delivery.envelope import HEADER, SIGNATURE
from federation.delivery.signer import KeyRevoked, Signer
from federation.errors import Conflict
from federation.security.signing import load_public
from federation.services import quarantine, signers
from federation.store import outbox
from federation.transaction import Transactions
from tests.integration.delivery.forging import JSON, Sent, entry, genuine, mark, put, signed, unsigned
from tests.integration.delivery.test_delivery import stomp

World = Any


def header(**changed: Any) -> Callable[[World, Sent], Sent]:
    return lambda world, sent: Sent({**sent.headers, **changed}, sent.body)


def in_envelope(**changed: Any) -> Callable[[World, Sent], Sent]:
    return lambda world, sent: Sent({**sent.headers, HEADER: {**sent.headers[HEADER], **changed}}, sent.body)


def in_body(place: int, **changed: Any) -> Callable[[World, Sent], Sent]:
    def alter(world: World, sent: Sent) -> Sent:
        parts = json.loads(sent.body)
        parts[place] = {**parts[place], **changed}
        return Sent(sent.headers, json.dumps(parts).encode())

    return alter


def stranger(world: World) -> Signer:
    """Somebody with a key that nobody registered."""
    made = Signer("node:stranger", world.folder / "stranger", world.service_url)
    made.register = lambda: None  # type: ignore[method-assign]
    return made


def revoked(world: World) -> Signer:
    made = Signer("node:fired", world.folder / "fired", world.service_url)
    with suppress(KeyRevoked):
        made.register()
        with world.transactions.begin("cli:tester") as session:
            signers.revoke(session, made.key.public.identity)
    made.register = lambda: None  # type: ignore[method-assign]
    return made


def pickled(world: World, sent: Sent) -> Sent:
    return Sent(sent.headers, pickle.dumps(([], {"number": 1}, {})), "application/x-python-serialize")


def of_another(world: World, sent: Sent) -> Sent:
    other = genuine(world, number=1)
    return Sent({**sent.headers, SIGNATURE: other.headers[SIGNATURE]}, sent.body)


def past() -> str:
    return (datetime.now(UTC) - timedelta(seconds=5)).isoformat()


INJECTED = Path(tempfile.gettempdir()) / f"injected-{uuid.uuid4()}"
EVIL = {"task": "tests.leave_a_mark", "args": [], "kwargs": {"path": str(INJECTED)}, "options": {}, "subtask_type": None, "immutable": True}
NOT_OVER = "its signature is not over this"
# What is done to a message that is signed as it should be, and why it is put aside then.
ALTERED: dict[str, tuple[Callable[[World, Sent], Sent], str]] = {
    "another task": (header(task="tests.where"), NOT_OVER),
    "another id": (lambda world, sent: Sent({**sent.headers, "id": str(uuid.uuid4())}, sent.body), NOT_OVER),
    "another try": (header(retries=3), NOT_OVER),
    "a later end": (header(expires="2099-01-01T00:00:00+00:00"), NOT_OVER),
    "another time": (header(eta="2020-01-01T00:00:00+00:00"), NOT_OVER),
    "another time limit": (header(timelimit=[0.001, None]), NOT_OVER),
    "into somebody's group": (header(group=str(uuid.uuid4()), group_index=0), NOT_OVER),
    "more returns": (header(federation_returns=7), NOT_OVER),
    "an unknown header": (header(injected=True), NOT_OVER),
    "another actor": (in_envelope(actor="ada"), NOT_OVER),
    "another trace": (in_envelope(trace_id="1" * 32), NOT_OVER),
    "for others": (in_envelope(requirements={"role": "lead"}), NOT_OVER),
    "no envelope": (lambda world, sent: Sent({k: v for k, v in sent.headers.items() if k != HEADER}, sent.body), NOT_OVER),
    "another argument": (in_body(1, seconds=0.5), NOT_OVER),
    "a callback": (in_body(2, callbacks=[EVIL]), NOT_OVER),
    "an errback": (in_body(2, errbacks=[EVIL]), NOT_OVER),
    "a chain": (in_body(2, chain=[EVIL]), NOT_OVER),
    "a chord": (in_body(2, chord=EVIL), NOT_OVER),
    "no JSON": (lambda world, sent: Sent(sent.headers, b"{" * 100_000), NOT_OVER),
    "a space": (lambda world, sent: Sent(sent.headers, sent.body + b" "), NOT_OVER),
    "pickle": (pickled, "application/x-python-serialize, and only JSON is read"),
    "text": (lambda world, sent: Sent(sent.headers, sent.body, "text/plain"), "text/plain, and only JSON is read"),
    "another's signature": (of_another, NOT_OVER),
    "no signature": (lambda world, sent: Sent({k: v for k, v in sent.headers.items() if k != SIGNATURE}, sent.body), "it is not signed"),
    "half a signature": (header(**{SIGNATURE: {"signer": "me"}}), f"header `{SIGNATURE}`"),
    "for a node": (
        lambda world, sent: Sent({**sent.headers, SIGNATURE: {**sent.headers[SIGNATURE], "node": world.calm_node}}, sent.body),
        NOT_OVER,
    ),
}
# What is wrong from the beginning, though it is signed.
MADE: dict[str, tuple[Callable[[World, int], Sent], str]] = {
    "by a stranger": (lambda world, number: signed(world, unsigned(world, number=number), signer=stranger(world)), "its signer is unknown"),
    "by one who was revoked": (lambda world, number: signed(world, unsigned(world, number=number), signer=revoked(world)), "its signer is revoked"),
    "for another node": (lambda world, number: genuine(world, number=number, requirements={"node": "elsewhere"}), "it is not for calm-"),
    "for another role": (lambda world, number: genuine(world, number=number, requirements={"role": "analyst"}), "it is not for calm-"),
    "for a card": (lambda world, number: genuine(world, number=number, requirements={"min_vram_gib": 24}), "GPU with 24 GiB"),
    "for a tag": (lambda world, number: genuine(world, number=number, requirements={"tags": ["frag"]}), "tag=frag"),
    "to another queue": (
        lambda world, number: signed(world, unsigned(world, number=number, enveloped=False), queue="other"),
        "it was sent to 'other'",
    ),
    "without an audience": (
        lambda world, number: _for_nobody(world, unsigned(world, number=number, enveloped=False)),
        "it does not say for whom it is",
    ),
}
# What is wrong with what a known part sent ends the execution too: its caller learns it.
FINAL: dict[str, tuple[Callable[[World, int], Sent], str]] = {
    "over": (lambda world, number: genuine(world, number=number, expires=past()), "it expired at"),
    "over, without an envelope": (lambda world, number: genuine(world, number=number, enveloped=False, expires=past()), "it expired at"),
}


def _for_nobody(world: World, sent: Sent) -> Sent:
    made = world.app.amqp.signer.sign(sent.headers, sent.body, node=None, **JSON)
    return Sent({**sent.headers, SIGNATURE: made}, sent.body)


def numbers() -> Iterator[int]:
    yield from range(1_000, 100_000)


NUMBERS = numbers()


def refused(world: World, sent: Sent, number: int, reason: str, *, final: bool = False) -> None:
    """It was put aside as it came, with the reason; nothing has run, and nothing was said of the execution whose id it bears."""
    why, execution_id, body = entry(world, sent.headers["id"])
    assert reason in why
    assert body == sent.body
    assert execution_id == (sent.id if final else None)
    assert not mark(world, number).exists()
    assert not INJECTED.exists()
    assert world.rows("SELECT 1 FROM execution_deliveries WHERE execution_id = %s", sent.id) == []
    if not final:
        assert world.rows("SELECT 1 FROM celery_results WHERE task_id = %s", sent.headers["id"]) == []


@pytest.mark.parametrize("enveloped", [True, False])
def test_a_message_as_it_was_signed_runs(calm: World, enveloped: bool) -> None:
    number = next(NUMBERS)
    sent = genuine(calm, number=number, enveloped=enveloped, requirements={"role": "lead"})
    put(calm, sent)
    assert calm.result(sent.id) == str(mark(calm, number))
    assert mark(calm, number).exists()


@pytest.mark.parametrize("how", ALTERED)
def test_a_message_that_was_altered_is_not_run(calm: World, how: str) -> None:
    number = next(NUMBERS)
    alter, reason = ALTERED[how]
    sent = alter(calm, genuine(calm, number=number))
    put(calm, sent)
    refused(calm, sent, number, reason)


@pytest.mark.parametrize("how", MADE)
def test_a_message_that_nobody_may_send_here_is_not_run(calm: World, how: str) -> None:
    number = next(NUMBERS)
    make, reason = MADE[how]
    sent = make(calm, number)
    put(calm, sent)
    refused(calm, sent, number, reason)


@pytest.mark.parametrize("how", FINAL)
def test_a_message_that_is_over_is_not_run_and_its_caller_learns_it(calm: World, how: str) -> None:
    number = next(NUMBERS)
    make, reason = FINAL[how]
    sent = make(calm, number)
    put(calm, sent)
    refused(calm, sent, number, reason, final=True)
    with pytest.raises(Exception, match=reason):
        calm.result(sent.id)


def test_a_message_that_says_it_came_elsewhere_is_not_run(calm: World) -> None:
    """The transport's own header is nobody's to sign; a retry would go where it says."""
    number = next(NUMBERS)
    sent = genuine(calm, number=number)
    properties = {"delivery_info": {"exchange": "", "routing_key": "elsewhere"}, "delivery_mode": 2, "priority": 0}
    message = {"headers": sent.headers, "properties": properties, "content-type": sent.content_type, "content-encoding": "utf-8", "body": sent.body}
    told, raw = pack(message, calm.destination(calm.calm_node), max_bytes=10**6)
    stomp(calm, encode("SEND", told, raw))
    refused(calm, sent, number, "it says that it came by the queue 'elsewhere'")


def test_a_forged_message_does_not_end_the_execution_that_it_names(calm: World) -> None:
    started, go = calm.folder / "started-named", calm.folder / "go-named"
    identity = calm.record("tests.effect", {"started": str(started), "go": str(go)})
    calm.until(started.exists, "it runs")
    forged = unsigned(calm, "tests.poison", kwargs={}, task_id=str(identity))
    put(calm, forged)
    assert "it is not signed" in entry(calm, identity)[0]
    assert calm.state(identity).state == "running"
    go.touch()
    assert calm.result(identity)["first"] is True
    assert calm.state(identity).state == "completed"
    with pytest.raises(Conflict, match="has succeeded"), calm.transactions.begin("cli:tester") as session:
        quarantine.redrive(session, identity)


def test_work_whose_signer_was_revoked_is_sent_again_by_hand_as_it_was_recorded(calm: World) -> None:
    number = next(NUMBERS)
    with Transactions(calm.transactions.engine, _Nowhere(), service=calm.transactions.service).begin("tester") as session:
        identity = outbox.record(session, "tests.leave_a_mark", {"path": str(mark(calm, number))}, requirements={"node": calm.calm_node})
    with calm.transactions.begin("test:hand") as session:
        session.connection().exec_driver_sql("DELETE FROM outbox WHERE execution_id = %s", (identity,))
    sent = signed(calm, unsigned(calm, number=number, task_id=str(identity)), signer=revoked(calm))
    put(calm, sent)
    refused(calm, sent, number, "its signer is revoked")
    assert calm.state(identity).state == "queued"
    with calm.transactions.begin("cli:root") as session:
        assert quarantine.redrive(session, identity) == identity
    assert calm.result(identity) == str(mark(calm, number))


class _Nowhere:
    """Sends nothing."""

    def publish(self, _: Any) -> None: ...

    def cancel(self, _: Any) -> None: ...


def test_a_signer_that_is_revoked_dies_within_seconds(calm: World) -> None:
    leaver = Signer("node:leaver", calm.folder / "leaver", calm.service_url)
    sent = signed(calm, unsigned(calm, "tests.where", kwargs={}), signer=leaver)
    put(calm, sent)
    assert calm.result(sent.id)["node"] == calm.calm_node
    with calm.transactions.begin("cli:root") as session:
        [gone] = signers.revoke(session, "node:leaver")
    assert gone.state == "revoked"

    def is_refused() -> bool:
        put(calm, signed(calm, unsigned(calm, "tests.where", kwargs={}), signer=leaver))
        return bool(calm.rows("SELECT 1 FROM quarantine WHERE reason LIKE %s", f"its signer is revoked: key {gone.identity[:16]}%"))

    calm.until(is_refused, "what it signs is put aside")


def test_each_part_has_a_key_of_its_own_that_only_it_can_read(calm: World) -> None:
    calm.record("tests.where")
    names = calm.rows("SELECT name, identity, public_key FROM signers WHERE name IN (%s, %s)", f"node:{calm.calm_node}", calm.app.amqp.signer.name)
    assert len({identity for _, identity, _ in names}) == 2
    for name, identity, pem in names:
        path = calm.folder / "keys" / f"{name.replace(':', '-')}.pem"
        assert path.stat().st_mode & 0o777 == 0o600
        public = load_public(path.with_suffix(".pub.pem"))
        assert (public.identity, public.pem) == (identity, pem)


def test_what_stock_tools_and_canvas_send_is_signed_and_runs(calm: World) -> None:
    """Successors are signed by the node that sends them, the first by who asked."""
    numbers = [next(NUMBERS) for _ in range(6)]
    marks = [mark(calm, number) for number in numbers]
    steps = [signature("tests.leave_a_mark", kwargs={"path": str(path)}, immutable=True, app=calm.app).set(queue=calm.calm_node) for path in marks]
    sent = chain(steps[0], steps[1], chord(group(steps[2:5], app=calm.app), steps[5], app=calm.app), app=calm.app).apply_async()
    assert sent.get(timeout=90) == str(marks[5])
    assert all(path.exists() for path in marks)


def test_the_stock_command_signs_and_a_program_without_our_application_does_not(calm: World) -> None:
    numbers = [next(NUMBERS) for _ in range(2)]
    marks = [mark(calm, number) for number in numbers]
    calm.celery("call", "tests.leave_a_mark", "--queue", calm.calm_node, "--kwargs", json.dumps({"path": str(marks[0])}), name="call").wait(60)
    calm.until(marks[0].exists, "what the command has sent runs")
    plain = Celery(broker=calm.broker_url, set_as_current=False)
    plain.conf.broker_transport_options = {"queue_prefix": QUEUE_PREFIX}
    sent = plain.send_task("tests.leave_a_mark", kwargs={"path": str(marks[1])}, queue=calm.calm_node)
    assert "it is not signed" in entry(calm, sent.id)[0]
    assert not marks[1].exists()


def test_messages_wait_for_a_database_that_is_away_and_none_is_put_aside(calm: World, postgres: Any) -> None:
    newcomer = Signer("node:newcomer", calm.folder / "newcomer", calm.service_url)
    sent = [signed(calm, unsigned(calm, "tests.where", kwargs={"n": n}), signer=newcomer) for n in range(3)]
    [(before,)] = calm.rows("SELECT count(*) FROM quarantine")
    known = calm.log(calm.calm_node).count("consumer.paused")
    postgres.kill()
    for each in sent:
        put(calm, each)
    calm.until(lambda: calm.log(calm.calm_node).count("consumer.paused") > known, "the worker pauses")
    postgres.start()
    assert [calm.result(each.id)["n"] for each in sent] == [0, 1, 2]
    assert calm.rows("SELECT count(*) FROM quarantine") == [(before,)]


def test_who_has_lost_the_key_sends_nothing_and_says_why(world: World) -> None:
    """What is recorded waits; with another key it is sent."""
    node = world.node("waiting")
    worker = world.worker(node)
    world.result(world.record("tests.where"))
    signer = world.app.amqp.signer
    with world.transactions.begin("cli:root") as session:
        signers.revoke(session, signer.key.public.identity)
    signer._look_at = 0.0
    identity = world.record("tests.where")
    assert "was revoked at" in (world.state(identity).waiting_for or "")
    for path in (world.folder / "keys").glob("cli-*"):
        path.unlink()
    world.app.amqp._signers.clear()
    assert world.publisher.sweep() == 1
    assert world.result(identity)["node"] == node
    assert worker.poll() is None


def test_without_required_signatures_what_is_not_signed_runs_and_what_is_signed_is_checked(world: World) -> None:
    world.calm_node = world.node("lenient")
    world.worker(world.calm_node, FEDERATION_SIGNATURES="accepted")
    sent = unsigned(world, "tests.where", kwargs={})
    put(world, sent)
    assert world.result(sent.id)["node"] == world.calm_node
    number = next(NUMBERS)
    forged = in_body(1, seconds=0.5)(world, genuine(world, number=number))
    put(world, forged)
    refused(world, forged, number, NOT_OVER)
