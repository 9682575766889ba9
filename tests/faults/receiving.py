"""Consumers of kombu: one that takes a single message, and one that keeps book and comes back after each loss of its connection."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import kombu
from kombu.mixins import ConsumerMixin
from kombu.utils.limits import TokenBucket

import federation.broker  # noqa: F401  # registers activemq://
from tests.faults.diary import PATIENCE_S


def take(connection: kombu.Connection, name: str) -> Any:
    """Consume until a message comes, and return it unsettled; the consumer stays."""
    taken: list[Any] = []
    kombu.Consumer(connection, [kombu.Queue(name, routing_key=name)], on_message=taken.append, prefetch_count=1).consume()
    while not taken:
        connection.drain_events(timeout=PATIENCE_S)
    return taken[0]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery: its body, the publisher's id for it, the mark, when it came, and since when its connection had been there."""

    body: str
    message_id: str
    redelivered: bool
    at: float
    since: float


class Receiver(ConsumerMixin, threading.Thread):  # type: ignore[misc]  # kombu has no types
    """Acknowledges each message as it comes; in a thread of its own."""

    connect_max_retries = None
    # kombu's own limit is one new start a second.
    restart_limit = TokenBucket(100)

    def __init__(self, url: str, queue: str, *, prefetch: int = 20, **options: Any) -> None:
        threading.Thread.__init__(self, daemon=True)
        self.connection = kombu.Connection(url, transport_options=options, connect_timeout=2)
        self._queue, self._prefetch = queue, prefetch
        self.arrivals: list[Arrival] = []
        self._since = 0.0
        self.failure: BaseException | None = None

    def get_consumers(self, consumer_class: Any, channel: Any) -> Sequence[Any]:
        """Consume from the one queue."""
        self._since = time.monotonic()
        queue = kombu.Queue(self._queue, routing_key=self._queue)
        return [consumer_class([queue], on_message=self._receive, prefetch_count=self._prefetch)]

    def _receive(self, message: Any) -> None:
        told = message.properties["message_id"], message.delivery_info["redelivered"]
        self.arrivals.append(Arrival(message.decode(), *told, time.monotonic(), self._since))
        message.ack()

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        """Say nothing: a broken connection is what is tested."""

    def run(self) -> None:
        """Consume until `stop`."""
        try:
            ConsumerMixin.run(self)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.connection.release()

    def stop(self) -> None:
        """End it and wait for that."""
        self.should_stop = True
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the receiver does not end"
