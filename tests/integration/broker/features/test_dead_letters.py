"""Dead letters say where they were and why they died; they are read without being taken, and sent back or removed."""

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.commands import DONE, NOT_FOUND, UNAVAILABLE, WRONG_INPUT
from federation.broker.dead_letters import dead_letter_queues, list_dead_letters, purge_dead_letters, redrive
from federation.broker.errors import NoDeadLetterQueue, OptionRefused
from tests import forks

Kill = Callable[..., None]


@pytest.fixture
def kill(bus: Any) -> Kill:
    """Publishes messages and rejects them."""

    def kill_messages(queue: kombu.Queue, *bodies: Any, transport: dict[str, Any] | None = None, **options: Any) -> None:
        connection = bus.connect(**(transport or {}))
        producer = kombu.Producer(connection)
        with producer.batch(max_size=200):
            for body in bodies:
                producer.publish(body, routing_key=queue.name, declare=[queue], **options)
        inbox = bus.listen(connection, queue)
        for number in range(len(bodies)):
            inbox.wait(number + 1)[number].reject()
        inbox.consumer.cancel()
        connection.release()

    return kill_messages


def test_a_dead_letter_tells_where_it_was_why_and_when(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    kill(queue, {"answer": 42}, headers={"task": "sum", "id": "t1", "tenant": "ä"}, expiration=3600, transport={"queue_prefix": "pre."})
    (letter,) = list_dead_letters(bus.connect(queue_prefix="pre."), queue.name)
    assert (letter.queue, letter.dead_letter_queue) == (queue.name, f"DLQ.pre.{queue.name}")
    assert (letter.task, letter.task_id, letter.headers["tenant"], letter.body) == ("sum", "t1", "ä", b'{"answer": 42}')
    assert letter.reason == "rejected by its consumer"
    assert letter.sent_at is not None
    assert letter.died_at is not None
    assert began <= letter.sent_at <= letter.died_at <= datetime.now(UTC) + timedelta(seconds=1)


def test_listing_takes_nothing_and_goes_beyond_what_browsing_can(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, *range(700))
    connection = bus.connect()
    for _ in range(2):
        listed = list(list_dead_letters(connection, queue.name, limit=1000))
        assert [json.loads(letter.body) for letter in listed] == list(range(700))
        assert len({letter.id for letter in listed}) == 700
    assert len(list(list_dead_letters(connection, queue.name, limit=7))) == 7
    assert dead_letter_queues(connection)[f"DLQ.{queue.name}"] == 700
    assert list(list_dead_letters(connection, "nobody")) == []


def test_all_are_sent_back_once_with_their_headers_and_marked_as_redelivered(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, *range(250), headers={"tenant": "ä"}, priority=4, message_group="g", stomp_headers={"colour": "red"}, expiration=3600)
    told: list[tuple[int, int]] = []
    connection = bus.connect()
    assert redrive(connection, queue.name, on_progress=lambda done, total: told.append((done, total))) == 250
    assert told == [(100, 250), (200, 250), (250, 250)]
    assert list(list_dead_letters(connection, queue.name)) == []
    inbox = bus.listen(connection, kombu.Queue(queue.name, routing_key=queue.name, consumer_arguments={"selector": "colour = 'red'"}), no_ack=True)
    inbox.wait(250)
    assert inbox.bodies == list(range(250))
    assert {(one.headers["tenant"], one.delivery_info["priority"], one.delivery_info["redelivered"]) for one in inbox.messages} == {("ä", 4, True)}
    assert inbox.stays_at(250)


def test_one_can_be_sent_back_wherever_it_stands(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, *range(600))
    connection = bus.connect()
    letters = list(list_dead_letters(connection, queue.name, limit=600))
    assert redrive(connection, queue.name, only=letters[550].id) == 1
    assert redrive(connection, queue.name, only=letters[550].id) == 0
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == 550
    assert [json.loads(one.body) for one in list_dead_letters(connection, queue.name, limit=600)] == [n for n in range(600) if n != 550]


def test_what_dies_again_while_it_is_sent_back_is_left(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, *range(150))
    connection = bus.connect()
    inbox = kombu.Consumer(connection, [queue], on_message=lambda message: message.reject())
    inbox.consume()

    def reject_again(_done: int, _total: int) -> None:
        connection.drain_events(timeout=60)

    assert redrive(bus.connect(), queue.name, on_progress=reject_again) == 150


def test_a_letter_that_dies_again_after_a_redrive_is_a_new_one(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, 1)
    connection = bus.connect()
    (first,) = list_dead_letters(connection, queue.name)
    redrive(connection, queue.name)
    inbox = bus.listen(connection, queue)
    inbox.wait()[0].reject()
    inbox.consumer.cancel()
    bus.wait_for(lambda: list(list_dead_letters(connection, queue.name)), "it is among the dead letters")
    (again,) = list_dead_letters(connection, queue.name)
    assert again.id != first.id
    told = [time for time in (first.sent_at, first.died_at, again.sent_at, again.died_at) if time is not None]
    assert len(told) == 4
    assert told == sorted(told)


def test_purged_ones_are_gone(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, 1, 2, 3)
    connection = bus.connect()
    assert purge_dead_letters(connection, queue.name) == 3
    assert list(list_dead_letters(connection, queue.name)) == []


def test_bodies_that_are_no_text_and_letters_of_plain_peers_are_read_and_sent_back(bus: Any, queue: kombu.Queue, plain: Any) -> None:
    plain.send(f"/queue/{queue.name}", b"\x00\xff", persistent="true", colour="red")
    connection = bus.connect()
    inbox = bus.listen(connection, queue)
    inbox.wait()[0].reject()
    inbox.consumer.cancel()
    # A reject is not waited for.
    bus.wait_for(lambda: list(list_dead_letters(connection, queue.name)), "it is among the dead letters")
    (letter,) = list_dead_letters(connection, queue.name)
    assert (letter.body, letter.queue, letter.task) == (b"\x00\xff", queue.name, None)
    assert redrive(connection, queue.name) == 1
    frame = plain.receive(f"/queue/{queue.name}")
    assert (frame.body, frame.headers["colour"]) == (b"\x00\xff", "red")


def test_without_the_option_the_brokers_policy_decides(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, "by the broker", transport={"dead_letter_queue": ""})
    # The policy of the tests' broker has the same name for it.
    (letter,) = list_dead_letters(bus.connect(), queue.name)
    assert (letter.queue, letter.reason, letter.died_at) == (queue.name, None, None)
    assert redrive(bus.connect(), queue.name) == 1
    with pytest.raises(NoDeadLetterQueue, match="dead_letter_queue"):
        next(list_dead_letters(bus.connect(dead_letter_queue=""), queue.name))


def test_queues_may_share_a_dead_letter_queue(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    shared = {"dead_letter_queue": f"lost.{uuid.uuid4().hex}"}
    other = kombu.Queue(f"{queue.name}.other", routing_key=f"{queue.name}.other")
    kill(queue, "mine", transport=shared)
    kill(other, "theirs", transport=shared)
    connection = bus.connect(**shared)
    assert dead_letter_queues(connection) == {shared["dead_letter_queue"]: 2}
    assert [letter.body for letter in list_dead_letters(connection, other.name)] == [b"theirs"]
    with pytest.raises(NoDeadLetterQueue, match="among those of other queues"):
        purge_dead_letters(connection, queue.name)
    assert redrive(connection, other.name) == 1
    assert [letter.body for letter in list_dead_letters(connection, queue.name)] == [b"mine"]


def test_a_dead_letter_queue_may_be_meant_by_its_own_name(bus: Any, queue: kombu.Queue, kill: Kill) -> None:
    prefix = {"queue_prefix": "pre."}
    kill(queue, 1, 2, transport=prefix)
    connection = bus.connect(**prefix)
    own = f"DLQ.pre.{queue.name}"
    for _ in range(3):
        assert [letter.body for letter in list_dead_letters(connection, own)] == [b"1", b"2"]
    first, _ = list_dead_letters(connection, own)
    assert redrive(connection, own, only=first.id) == 1
    assert purge_dead_letters(connection, own) == 1
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == 1


def test_tasks_in_a_queue_that_is_named_as_letters_would_be_are_left(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect(dead_letter_queue="{queue}s")
    tasks = kombu.Queue(f"{queue.name}s", routing_key=f"{queue.name}s")
    bus.publish(connection, tasks, "a task")
    assert list(list_dead_letters(connection, tasks.name)) == []
    assert purge_dead_letters(connection, tasks.name) == 0
    (task,) = bus.listen(connection, tasks, no_ack=True).wait()
    assert (task.decode(), task.delivery_info["redelivered"]) == ("a task", False)


def test_no_consumer_takes_from_where_it_would_reject_to(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect(dead_letter_queue=f"pre.{queue.name}", queue_prefix="pre.")
    bus.publish(connection, queue, "a")
    for taking in (lambda: bus.listen(connection, queue), lambda: queue(connection.default_channel).get()):
        with pytest.raises(OptionRefused, match=f"it must be another queue than '{queue.name}', from which"):
            taking()
    # It rejects nothing.
    assert queue(connection.default_channel).get(no_ack=True).decode() == "a"
    bus.publish(connection, queue, "b")
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == "b"


def test_a_worker_of_the_dead_letter_queue_itself_says_what_to_set_and_ends(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = project("pool_app")
    monkeypatch.setenv("DEAD_LETTER_QUEUE", pool.queue)
    worker = pool.start(wait=False)
    assert worker.process.wait(timeout=120) != 0
    assert f"OptionRefused: transport option dead_letter_queue: got {pool.queue!r}" in worker.log


def test_a_user_who_may_not_write_there_leaves_it_to_the_broker(bus: Any, activemq: Any, kill: Kill) -> None:
    name = f"federation.node.{uuid.uuid4().hex}"
    queue = kombu.Queue(name, routing_key=name)
    url = activemq.url.replace(activemq.user, "relay").replace(activemq.password, activemq.passwords["relay"])
    with kombu.Connection(url) as connection:
        bus.publish(connection, queue, "refused")
        inbox = bus.listen(connection, queue)
        inbox.wait()[0].reject()
        bus.publish(connection, queue, "alive")
        assert inbox.wait(2)[1].decode() == "alive"
        inbox.messages[1].ack()
    (letter,) = list_dead_letters(bus.connect(), name)
    assert (letter.body, letter.reason) == (b"refused", None)


def command(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "CELERY_BROKER_URL": url}
    return forks.run("federation.broker", *arguments, cwd=Path.cwd(), env=environment, timeout_s=200, imported=forks.CELERY)


def test_the_command_line_lists_redrives_and_purges(activemq: Any, queue: kombu.Queue, kill: Kill) -> None:
    kill(queue, "one", "two\x1b[31m", b"\xff\x00", headers={"task": "sum\nof all"})
    url = activemq.url
    listed = command(url, "dead-letters", "list", queue.name)
    assert listed.returncode == DONE, listed.stderr
    assert listed.stdout.count("rejected by its consumer") == 3
    assert listed.stdout.count("sum of all") == 3
    rows = json.loads(command(url, "dead-letters", "list", queue.name, "--json").stdout)
    assert [row.get("body") for row in rows] == ["one", "two\x1b[31m", None]
    assert rows[2]["body_base64"] == "/wA="
    assert f"DLQ.{queue.name}" in command(url, "dead-letters", "list").stdout
    assert command(url, "dead-letters", "redrive", queue.name, "--id", rows[0]["id"]).returncode == DONE
    again = command(url, "dead-letters", "redrive", queue.name, "--id", rows[0]["id"])
    assert (again.returncode, f"has the id {rows[0]['id']}" in again.stderr) == (NOT_FOUND, True)
    assert json.loads(command(url, "dead-letters", "redrive", queue.name, "--all", "--json").stdout) == [{"queue": queue.name, "redriven": 2}]
    sizes = {row["queue"]: row for row in json.loads(command(url, "queues", "--json").stdout)}
    assert sizes[queue.name] == {"queue": queue.name, "waiting": 3, "in_flight": 0, "consumers": 0}
    assert command(url, "dead-letters", "purge", queue.name).returncode == WRONG_INPUT
    assert json.loads(command(url, "dead-letters", "purge", queue.name, "--yes", "--json").stdout) == [{"queue": queue.name, "purged": 0}]


def test_the_command_line_names_the_nearest_to_a_queue_that_there_is_not(activemq: Any, queue: kombu.Queue, kill: Kill) -> None:
    prefix = f"{uuid.uuid4().hex[:8]}."
    kill(queue, 1, transport={"queue_prefix": prefix})
    for verb in (["list"], ["redrive", "--all"], ["redrive", "--id", "ID:1"], ["purge", "--yes"]):
        given = ("--queue-prefix", prefix, "dead-letters", *verb)
        # Misspelt; as `queues` shows it; a dead-letter queue that there is not.
        for wrong in (queue.name[1:], f"{prefix}{queue.name}", f"DLQ.{queue.name}"):
            told = command(activemq.url, *given, wrong)
            assert (told.returncode, told.stdout) == (NOT_FOUND, ""), verb
            assert told.stderr.startswith(
                f"QueueUnknown: ActiveMQ knows neither a queue {wrong!r} nor dead letters of it; the nearest are {queue.name!r}"
            )
    nothing = command(activemq.url, "dead-letters", "redrive", "§" * 20, "--all")
    assert (nothing.returncode, "none that it knows is like it" in nothing.stderr) == (NOT_FOUND, True)
    assert command(activemq.url, *given[:2], "dead-letters", "redrive", queue.name, "--all").returncode == DONE
    for verb in (["list"], ["redrive", "--all"], ["purge", "--yes"]):
        assert command(activemq.url, *given[:2], "dead-letters", *verb, queue.name).returncode == DONE


def test_the_command_line_takes_the_name_of_the_dead_letter_queue(activemq: Any, queue: kombu.Queue, kill: Kill) -> None:
    shared = f"lost.{uuid.uuid4().hex}"
    for options, name in (([], f"DLQ.{queue.name}"), (["--dead-letter-queue", shared], shared)):
        kill(queue, 1, 2, transport={"dead_letter_queue": shared} if options else None)

        def letters(*words: str, options: list[str] = options) -> Any:
            return command(activemq.url, *options, "dead-letters", *words, "--json")

        assert len(json.loads(letters("list", name).stdout)) == 2
        if options:
            refused = letters("purge", queue.name, "--yes")
            assert (refused.returncode, f"under the name {shared!r}" in refused.stderr) == (WRONG_INPUT, True)
        assert json.loads(letters("purge", name, "--yes").stdout) == [{"queue": name, "purged": 2}]
        emptied = letters("list", name)
        assert (emptied.returncode, json.loads(emptied.stdout)) == (DONE, [])


def test_the_command_line_takes_wrong_names_for_wrong_input(activemq: Any) -> None:
    for given in (["list", ""], ["purge", "", "--yes"], ["redrive", "a" * 5000, "--all"]):
        wrong = command(activemq.url, "dead-letters", *given)
        assert (wrong.returncode, wrong.stderr.startswith("NameRefused: ")) == (WRONG_INPUT, True), wrong.stderr
    for template, told in (("{queue}", "OptionRefused"), ("DLQ.{name}", "OptionRefused"), ("", "NoDeadLetterQueue")):
        wrong = command(activemq.url, "--dead-letter-queue", template, "dead-letters", "list", "work")
        assert (wrong.returncode, wrong.stderr.startswith(told)) == (WRONG_INPUT, True), wrong.stderr


def test_the_command_line_takes_broker_and_options_from_a_celery_app(activemq: Any, monkeypatch: pytest.MonkeyPatch, project: Any) -> None:
    examples = project("orders")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((*filter(None, [os.environ.get("PYTHONPATH")]), str(examples.folder))))
    assert command(activemq.url, "-A", "orders", "queues").returncode == DONE
    elsewhere = command(activemq.url, "-A", "orders", "-b", "activemq://127.0.0.1:1", "queues")
    assert elsewhere.returncode == UNAVAILABLE, "the broker that was named is not the one that was asked"
    wrong = command(activemq.url, "-A", "no_such_module", "queues")
    assert (wrong.returncode, "no_such_module" in wrong.stderr) == (WRONG_INPUT, True)


def test_the_command_line_takes_an_app_with_wrong_options_for_wrong_input(activemq: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((*filter(None, [os.environ.get("PYTHONPATH")]), str(tmp_path))))
    for number, (option, told) in enumerate((("queue_prefx='a'", "is queue_prefix meant"), ("queue_prefix=3", "must be a text"))):
        text = f"from celery import Celery\n\napp = Celery(broker={activemq.url!r})\napp.conf.broker_transport_options = dict({option})\n"
        (tmp_path / f"wrong{number}.py").write_text(text)
        wrong = command(activemq.url, "-A", f"wrong{number}", "queues")
        assert (wrong.returncode, told in wrong.stderr) == (WRONG_INPUT, True), wrong.stderr


def test_the_command_line_shows_and_removes_what_is_scheduled(activemq: Any, bus: Any, queue: kombu.Queue) -> None:
    bus.publish(bus.connect(), queue, "later", headers={"eta": "2999-01-01T00:00:00+00:00", "task": "wait", "id": "t2"})
    (job,) = [row for row in json.loads(command(activemq.url, "scheduled", "list", "--json").stdout) if row["queue"] == queue.name]
    assert (job["task"], job["task_id"], job["eta"]) == ("wait", "t2", "2999-01-01T00:00:00+00:00")
    assert command(activemq.url, "scheduled", "remove", job["job_id"]).returncode == DONE
    assert command(activemq.url, "scheduled", "remove", job["job_id"]).returncode == NOT_FOUND


def test_the_command_line_says_what_is_wrong(activemq: Any) -> None:
    assert command("", "queues").returncode == WRONG_INPUT
    assert command(activemq.url).returncode == WRONG_INPUT
    for url in ("garbage", "memory://", "redis://user:secret@127.0.0.1:1/", f"{activemq.url}?x=1"):
        wrong = command(url, "queues")
        assert (wrong.returncode, wrong.stderr.startswith("usage: ")) == (WRONG_INPUT, True)
        assert "Traceback" not in wrong.stderr
        assert "secret" not in wrong.stderr
    nobody = command("activemq://user:secret@127.0.0.1:1/", "queues")
    assert nobody.returncode == UNAVAILABLE
    assert "is ActiveMQ running there" in nobody.stderr
    assert "secret" not in nobody.stderr
    assert "Traceback" not in nobody.stderr
