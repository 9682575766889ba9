"""kombu's unit tests of its virtual transports, with our Channel, QoS and Transport in the place of kombu's, on a real ActiveMQ."""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import kombu
import pytest
from kombu.transport import virtual

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.channel import Channel
from federation.broker.qos import QoS

SUITE = Path(__file__).resolve().parents[2] / ".cache" / "kombu-suite" / version("kombu") / "t" / "unit" / "transport" / "virtual" / "test_base.py"


def _load() -> ModuleType | None:
    if not SUITE.exists():
        return None
    specification = importlib.util.spec_from_file_location("kombu_unit_virtual", SUITE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    ours = {"Channel": Channel, "QoS": QoS}
    # The suite stubs what it does not test in subclasses of these.
    module.virtual = SimpleNamespace(**{**vars(virtual), **ours})
    return module


suite = _load()


def test_unit_suite_of_the_installed_kombu_is_fetched() -> None:
    assert suite is not None, f"kombu's unit tests {version('kombu')} are not here: run `make fetch`"


@pytest.fixture(autouse=True)
def kombu_on_activemq(activemq: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the suite's own functions open connections to the test's broker."""
    opened: list[kombu.Connection] = []

    def connect(**options: Any) -> kombu.Connection:
        opened.append(kombu.Connection(activemq.url, **options))
        return opened[-1]

    monkeypatch.setattr(suite, "client", connect)
    monkeypatch.setattr(suite, "memory_client", connect)
    yield
    for connection in opened:
        connection.release()


# What does not apply, and why. The rest of the package's unit tests are of kombu's own code, which we use as it is: exchange types, BrokerState,
# the abstract channel; and of kombu's virtual Message, where ours is made from a STOMP frame.
SETTLED_BY_THE_CHANNEL = "our channel settles and the QoS only remembers, where kombu's channel asks its QoS"
RESTORED_BY_THE_BROKER = "the broker keeps what is not settled, so the client restores and dumps nothing"
NO_POLLING = "nothing is polled: the broker pushes, and a consumer is a subscription"
NOT_OURS = {
    "test_Channel": {
        "test_basic_ack": SETTLED_BY_THE_CHANNEL,
        "test_basic_reject": SETTLED_BY_THE_CHANNEL,
        "test_restore_unacked_raises_BaseException": RESTORED_BY_THE_BROKER,
        "test_restore_unacked_ignores_raised_exceptions_when_acked": RESTORED_BY_THE_BROKER,
        "test_restore_unacked_once_when_unrestored": RESTORED_BY_THE_BROKER,
        "test_basic_publish_unique_delivery_tags": "delivery tags count from 1 in each channel, as AMQP's do",
        "test_basic_publish__get__consume__restore": NO_POLLING,
        "test_basic_cancel": NO_POLLING,
        "test_basic_cancel_not_in_active_queues": NO_POLLING,
        "test_drain_events_has_get_many": NO_POLLING,
        "test_cycle_property": NO_POLLING,
        "test_after_reply_message_received": "late replies expire by themselves, and the queue serves the next ones",
    },
    "test_QoS": {
        "test_constructor": RESTORED_BY_THE_BROKER,
        "test_can_consume": RESTORED_BY_THE_BROKER,
        "test_restore_unacked_once_dumps_message_body": RESTORED_BY_THE_BROKER,
        "test_get": "it writes into a private attribute of kombu's QoS",
    },
    "test_Transport": {
        "test_timeout_over_polling_interval": NO_POLLING,
        "test_custom_polling_interval": NO_POLLING,
        "test_drain_channel": NO_POLLING,
        "test__deliver__no_queue": NO_POLLING,
        "test__reject_inbound_message": NO_POLLING,
        "test_on_message_ready": NO_POLLING,
        "test_on_message_ready__no_queue": NO_POLLING,
        "test_on_message_ready__no_callback": NO_POLLING,
    },
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_does_not_apply_is_in_the_suite(name: str) -> None:
    assert set(NOT_OURS[name]) <= set(vars(getattr(suite, name)))


def on_ours(name: str) -> Any:
    """Return a class of the suite without the tests that do not apply, and without its own set-up, which comes before any broker."""
    return type(name, (getattr(suite, name),), dict.fromkeys([*NOT_OURS[name], "teardown_method"]) | {"setup_method": lambda self: None})


if suite is not None:

    class TestChannel(on_ours("test_Channel")):  # type: ignore[misc]
        @pytest.fixture(autouse=True)
        def open_channel(self, kombu_on_activemq: None) -> None:
            self.channel = suite.client().channel()

    class TestTransport(on_ours("test_Transport")):  # type: ignore[misc]
        @pytest.fixture(autouse=True)
        def open_transport(self, kombu_on_activemq: None) -> None:
            self.transport = suite.client().transport
            self.transport.establish_connection()
            # kombu keeps a channel ready that the suite does not count.
            while self.transport.channels:
                self.transport.close_channel(self.transport.channels[0])
            self.transport._avail_channels.clear()

    class TestQoS(on_ours("test_QoS")):  # type: ignore[misc]
        @pytest.fixture(autouse=True)
        def open_qos(self, kombu_on_activemq: None) -> None:
            self.q = QoS(suite.client().channel(), prefetch_count=10)
