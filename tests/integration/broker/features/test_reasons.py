"""A dead letter tells apart a task that nobody knows, a content type that is refused, what is no task, and what a task itself has rejected."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu
import pytest
from kombu.utils import json

from federation.broker.dead_letters import list_dead_letters


@pytest.mark.parametrize("kind", ["prefork", "threads", "solo", "gevent"])
def test_a_worker_says_why_it_did_not_want_a_message(kind: str, project: Any, bus: Any, plain: Any) -> None:
    pool = project("pool_app")
    pool.start(pool=kind)
    wanted = {
        pool.app.send_task("shop.nosuch").id: "rejected by its consumer: it knows no task 'shop.nosuch'",
        pool.module.hold.apply_async((".",), serializer="pickle").id: "rejected by its consumer: ContentDisallowed: Refusing to deserialize "
        "untrusted content of type pickle (application/x-python-serialize)",
        pool.module.refuse.delay().id: "rejected by its consumer",
    }
    old = str(uuid.uuid4())
    body = {"task": "shop.old", "id": old, "args": [], "kwargs": {}}
    bus.publish(bus.connect(), kombu.Queue(pool.queue, routing_key=pool.queue), body)
    bus.publish(bus.connect(), kombu.Queue(pool.queue, routing_key=pool.queue), {"no": "task"})
    plain.send(f"/queue/{pool.queue}", b"hello")
    bus.wait_for(lambda: len(list(list_dead_letters(bus.connect(), pool.queue))) == 6, "all are dead")
    letters = list(list_dead_letters(bus.connect(), pool.queue))
    assert {letter.task_id: letter.reason for letter in letters if letter.task_id} == wanted
    reasons = {letter.body: str(letter.reason) for letter in letters if not letter.task_id}
    assert reasons[b"hello"].startswith("rejected by its consumer: it is no task of Celery (TypeError: ")
    assert reasons[b'{"no": "task"}'] == "rejected by its consumer: it is no task of Celery (KeyError: 'task')"
    assert reasons[json.dumps(body).encode()] == "rejected by its consumer: it knows no task 'shop.old'"


@contextmanager
def _rejecting(message: Any) -> Iterator[None]:
    try:
        yield
    except ValueError:
        message.reject()
        raise


def test_whoever_rejects_while_it_handles_an_error_tells_of_it_and_no_text_is_too_bad_for_that(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    inbox = bus.listen(connection, queue)
    for number, text in enumerate(("half \ud800", "nul \0 and\nline", "long " * 5000)):
        bus.publish(connection, queue, number)
        with pytest.raises(ValueError, match=text[:4]), _rejecting(inbox.wait(number + 1)[number]):
            raise ValueError(text)
    bus.publish(connection, queue, 3)
    inbox.wait(4)[3].reject()
    bus.wait_for(lambda: len(list(list_dead_letters(bus.connect(), queue.name))) == 4, "all are dead")
    reasons = [str(letter.reason) for letter in list_dead_letters(bus.connect(), queue.name)]
    told = "rejected by its consumer: ValueError: "
    assert reasons[:2] == [f"{told}half ?", f"{told}nul \ufffd and\nline"]
    assert (reasons[2].startswith(f"{told}long long"), len(reasons[2])) == (True, 2000)
    assert reasons[3] == "rejected by its consumer"


def test_celery_itself_acknowledges_a_body_that_it_cannot_decode(project: Any, bus: Any) -> None:
    pool = project("pool_app")
    worker = pool.start(pool="threads")
    queue = kombu.Queue(pool.queue, routing_key=pool.queue)
    bus.publish(bus.connect(), queue, "{", content_type="application/json", content_encoding="utf-8", headers={"task": "pool_app.hold", "id": "t1"})
    pool.module.refuse.delay()
    bus.wait_for(lambda: bool(list(list_dead_letters(bus.connect(), pool.queue))), "what came later is dead")
    assert "Can't decode message body" in worker.log
    assert [letter.task for letter in list_dead_letters(bus.connect(), pool.queue)] == ["pool_app.refuse"]
