"""What cannot be sent, set or asked for is refused by its name, before the broker cuts the connection for it."""

import json
import pickle
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.broker.errors import (
    AccessRefused,
    ArgumentRefused,
    ConfirmationMissing,
    ConnectionLost,
    HeaderRefused,
    MessageTooLarge,
    NameRefused,
    OptionRefused,
    OptionUnknown,
    QueueUnknown,
)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"routing_key": ""}, "empty"),
        ({"routing_key": "half \ud800"}, "half a character"),
        ({"expiration": 1e17}, "expires"),
        ({"expiration": "10"}, "expires"),
        ({"priority": "high"}, "priority"),
        ({"stomp_headers": {"": "x"}}, "''"),
        ({"stomp_headers": {"JMSXGroupSeq": "abc"}}, "JMSXGroupSeq"),
        ({"stomp_headers": {"JMSTimestamp": "x"}}, "JMSTimestamp"),
        ({"stomp_headers": {"AMQ_SCHEDULED_CRON": "x"}}, "AMQ_SCHEDULED_CRON"),
    ],
)
def test_what_the_broker_cannot_read_is_refused_by_name_and_the_connection_lives(
    bus: Any, queue: kombu.Queue, options: dict[str, Any], name: str
) -> None:
    connection = bus.connect()
    producer = kombu.Producer(connection)
    with pytest.raises(connection.channel_errors, match=name):
        producer.publish("never", **{"routing_key": queue.name} | options)
    bus.publish(connection, queue, "alive", stomp_headers={"JMSXGroupSeq": -1})
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == "alive"


@pytest.mark.parametrize("task", [None, 5, "", ["x"]])
def test_a_header_that_celery_would_read_as_its_own_loses_nothing(bus: Any, queue: kombu.Queue, task: Any) -> None:
    connection = bus.connect()
    bus.publish(connection, queue, {"a": 1}, headers={"task": task, "k": 1}, correlation_id="c")
    (message,) = bus.listen(connection, queue, no_ack=True).wait()
    if isinstance(task, list):
        # A worker would die of it, so it comes as a message of a stranger.
        assert json.loads(message.body) == {"a": 1}
        assert '"k":1' in message.headers["stomp"]["kombu"]
    else:
        assert (message.decode(), message.headers, message.properties["correlation_id"]) == ({"a": 1}, {"task": task, "k": 1}, "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_prefix", None),
        ("dead_letter_queue", "{queue}"),
        ("dead_letter_queue", " {queue}"),
        ("dead_letter_queue", "{queue},dead"),
        ("dead_letter_queue", "DLQ.{name}"),
        ("dead_letter_queue", "DLQ.{queue"),
        ("dead_letter_queue", "DLQ.{{queue}}"),
        ("confirm_timeout", "abc"),
        ("confirm_timeout", float("inf")),
        ("confirm_timeout", float("nan")),
        ("confirm_timeout", 1e300),
        ("heartbeat", float("inf")),
        ("heartbeat", 1_000_001),
        ("confirm_publish", "no"),
        ("max_frame_size", "1000000"),
        ("max_frame_size", 0),
        ("max_frame_size", 10),
        ("unlimited_prefetch", 0),
        ("on_redelivered", "os"),
        ("on_redelivered", "os:environ"),
        ("on_redelivered", "os:nothing"),
        ("on_redelivered", ":"),
        ("on_redelivered", {"os": "path"}),
        ("event_exchanges", "celeryev"),
        ("event_exchanges", [1]),
    ],
)
def test_an_option_of_a_wrong_value_is_refused_by_name(bus: Any, name: str, value: Any) -> None:
    with pytest.raises(OptionRefused, match=re.escape(f"{name}: got {value!r}")):
        kombu.Connection(bus.url, transport_options={name: value}).connect()


def test_a_hook_beside_the_app_is_found_as_celery_finds_the_app(bus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook_beside_the_app.py").write_text("def judge(message):\n    return None\n")
    monkeypatch.chdir(tmp_path)
    kombu.Connection(bus.url, transport_options={"on_redelivered": "hook_beside_the_app:judge"}).connect()
    assert str(tmp_path) not in sys.path


def test_kombus_own_heartbeat_is_refused_as_ours_is(bus: Any) -> None:
    with pytest.raises(OptionRefused, match=r"heartbeat: got inf; it must be a number of seconds up to 1000000"):
        kombu.Connection(bus.url, heartbeat=float("inf")).connect()


@pytest.mark.parametrize("most", [{"confirm_timeout": 1_000_000}, {"heartbeat": 1_000_000}, {"max_frame_size": 1000}])
def test_the_utmost_that_an_option_may_be_works(bus: Any, queue: kombu.Queue, most: dict[str, Any]) -> None:
    connection = bus.connect(**most)
    bus.publish(connection, queue, "a")
    assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == "a"


def test_a_misspelt_option_is_refused_and_a_left_over_one_is_told_once(bus: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OptionUnknown, match="confirm_publsh is not known; is confirm_publish meant"):
        bus.connect(confirm_publsh=False).connect()
    left = f"left_{uuid.uuid4().hex}"
    for _ in range(2):
        connection = bus.connect(**{left: 3})
        # kombu leaves the policy among the connection's options, to be read at the next connection.
        bus.publish(connection, kombu.Queue(left, routing_key=left), "a", retry=True, retry_policy={"max_retries": 1, "retry_errors": (OSError,)})
        connection.close()
        connection.connect()
    told = [record.getMessage() for record in caplog.records if record.name == "federation.broker.options"]
    assert [one.partition(" with ActiveMQ")[0] for one in told] == [f"transport option {left} is not known and has no effect"]


def test_a_type_of_exchange_that_there_is_not_is_refused(bus: Any) -> None:
    with pytest.raises(ArgumentRefused, match="direct, fanout, topic"):
        kombu.Exchange("e", type="headers")(bus.connect().default_channel).declare()


def test_errors_come_whole_from_another_process() -> None:
    given = (MessageTooLarge(2, 1), HeaderRefused("n", "r"), NameRefused("n", "r"), ConfirmationMissing(3.0, "a:1"), ConnectionLost("gone"))
    for error in (*given, OptionUnknown("n", "near"), QueueUnknown("n", ["near"])):
        again = pickle.loads(pickle.dumps(error))
        by_celery = type(error)(*error.args)
        assert str(again) == str(by_celery) == str(error)
        assert vars(again) == vars(error)
    refused = pickle.loads(pickle.dumps(AccessRefused("a:1", "user", "reason")))
    assert (refused.user, str(refused)) == ("user", str(AccessRefused("a:1", "user", "reason")))
