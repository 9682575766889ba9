"""Options that nobody knows are told or refused; those that kombu, Celery and other brokers' transports know never end a connection."""

import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import amqp
import kombu
import pytest
from celery.app.defaults import NAMESPACES
from kombu import Connection

from federation.broker import options
from federation.broker.errors import OptionUnknown
from federation.broker.options import Options, read_options, tell_unknown

KOMBU = Path(kombu.__file__).parent


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_told", set())


def known_elsewhere() -> Iterator[str]:
    """What transports of kombu and AMQP's client read, by their sources as they are installed; most cannot be imported without a client of theirs."""
    for path in KOMBU.rglob("*.py"):
        text = path.read_text()
        yield from re.findall(r"""(?:transport_options|topts|transport_opts)(?:\.get\(|\[)\s*['"]([\w-]+)['"]""", text)
        for taken in re.findall(r"from_transport_options = \([^=]*?\n    \)", text):
            yield from re.findall(r"'(\w+)'", taken)
    yield from inspect.signature(amqp.Connection).parameters


def test_what_other_transports_of_kombu_know_is_never_taken_for_one_of_ours_misspelt() -> None:
    names = set(known_elsewhere()) - set(Options.__dataclass_fields__)
    assert {"visibility_timeout", "global_keyprefix", "queue_name_prefix", "client_properties", "sep", "conn_string"} <= names
    assert read_options(dict.fromkeys(names)) == Options()


@pytest.mark.parametrize(
    "name",
    ["queue_prefx", "Queue_Prefix", "QUEUE_PREFIX", "queue-prefix", "queuePrefix", "confirm_publsh", "confirmpublish", "heartbeats", "on_redelivery"],
)
def test_a_misspelt_name_is_refused_with_the_one_that_is_meant(name: str) -> None:
    with pytest.raises(OptionUnknown, match=rf"option {name} is not known; is \w+ meant\? all are told on the page .* help\(federation") as refused:
        read_options({name: "a"})
    assert refused.value.near in Options.__dataclass_fields__


def test_others_are_told_once_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        tell_unknown({"visibility_timeout": 3600, "queue_name_prefix": "a", "queue_prefix": "b"})
    told = [record.getMessage().partition("; all are told on the page")[0] for record in caplog.records]
    assert told == [
        "transport option visibility_timeout is not known and has no effect with ActiveMQ",
        "transport option queue_name_prefix is not known and has no effect with ActiveMQ; the nearest is queue_prefix",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_what_kombu_reads_and_puts_there_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    policies = set(inspect.signature(Connection.ensure).parameters) - {"self", "obj", "fun"}
    failover = set(re.findall(r"'(\w+)' in transport_opts", inspect.getsource(Connection._extract_failover_opts)))
    celery = set(NAMESPACES["task"]["publish_retry_policy"].default)
    assert {"max_retries", "interval_start", "connect_retries_timeout", "errback"} <= policies | failover
    tell_unknown(dict.fromkeys(policies | failover | celery))
    assert caplog.records == []
