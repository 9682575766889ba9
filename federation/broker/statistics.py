"""Sizes of queues from ActiveMQ's statistics plugin; says clearly when the plugin is not there."""

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from federation.broker import destinations
from federation.broker.connection import StompConnection
from federation.broker.errors import BrokerError, ConfirmationMissing, ConnectionLost, RequestRefused, StatisticsMissing, StatisticsSilent
from federation.broker.frames import Frame, encode

SECONDS_TO_ANSWER = 5.0
# After so long a broker that says nothing is asked whether it reads at all.
SECONDS_BEFORE_DOUBT = 1.0
# Without the plugin a question is a message like any other, and must not stay in a queue of that name for ever.
QUESTIONS_EXPIRE_S = 60

_BROKER = "/queue/ActiveMQ.Statistics.Broker"
_QUEUE = "/queue/ActiveMQ.Statistics.Destination."
_TOPIC = "/topic/ActiveMQ.Statistics.Destination."
_PROBED = "/queue/federation.probe"


@dataclass(frozen=True, slots=True)
class QueueSize:
    """Messages of a queue: those that wait, and those that are with a consumer and not yet settled; and its STOMP subscriptions."""

    waiting: int
    in_flight: int
    subscriptions: int


def parse_map(body: bytes) -> dict[str, Any]:
    """Read ActiveMQ's map message in its `jms-map-json` form: entries of one or two typed values."""
    entries = json.loads(body)["map"]["entry"]
    read: dict[str, Any] = {}
    for entry in entries:
        values: list[Any] = []
        for value in entry.values():
            values.extend(value if isinstance(value, list) else [value])
        name, value = values
        read[name] = value
    return read


class Statistics:
    """Asks over one connection, from any thread; make sure by `probe` that the broker can answer, or it cuts that connection."""

    def __init__(self, wire: StompConnection) -> None:
        self._wire = wire
        # One question at a time: whoever waits takes every reply.
        self._asking = threading.Lock()
        # All of this user's connections hear there, and each takes what it has asked for.
        self._place, self._mine = destinations.replies(wire.address.user), secrets.token_hex(16)
        subscription, receipt = wire.next_id(), wire.next_id()
        self._replies = wire.collect(subscription)
        headers = {"id": subscription, "destination": self._place, "ack": "auto", "transformation": "jms-map-json", "receipt": receipt}
        headers["selector"] = f"JMSCorrelationID LIKE '{self._mine}%'"
        wire.request(encode("SUBSCRIBE", headers), receipt, SECONDS_TO_ANSWER)

    def size(self, destination: str, *, within_s: float | None = None) -> QueueSize | None:
        """Return the size of a queue destination, None if the broker has no such queue; raises StatisticsSilent."""
        with self._asking:
            # ActiveMQ tells of each wildcard too that it fits, once somebody has read or written to that.
            return self._ask(destination.removeprefix("/queue/"), within_s=within_s).get(destination)

    def sizes(self) -> dict[str, QueueSize]:
        """Return the sizes of all queues that this user may know of, by their destinations."""
        with self._asking:
            return self._ask(">")

    def is_heard(self, topic: str) -> bool:
        """Whether a virtual topic has a queue or somebody who listens; True as well for a user who may not ask."""
        name = topic.removeprefix("/topic/")
        with self._asking:
            if self._ask(f"Consumer.*.{name}"):
                return True
            try:
                return any(size.subscriptions for size in self._ask(name, _TOPIC).values())
            except RequestRefused:
                return True

    def _ask(self, name: str, kind: str = _QUEUE, *, within_s: float | None = None) -> dict[str, QueueSize]:
        number = self._mine + self._wire.next_id()
        # The broker says nothing about a queue that it does not know, but always something about itself: that ends the wait.
        last = f"{number}-end"
        if kind == _TOPIC:
            # With a receipt: without the right to ask, the broker would end the connection.
            receipt = self._wire.next_id()
            self._wire.request(self._query(kind + name, number, receipt=receipt), receipt, SECONDS_TO_ANSWER)
            self._wire.send(self._query(_BROKER, last))
        else:
            self._wire.send(self._query(kind + name, number) + self._query(_BROKER, last))
        found = {}
        within_s = within_s or SECONDS_TO_ANSWER
        deadline = monotonic() + within_s
        while True:
            for reply in self._take():
                correlation = reply.headers.get("correlation-id")
                if correlation == number:
                    values = parse_map(reply.body)
                    in_flight = int(values.get("inflightCount", 0))
                    size = QueueSize(max(0, int(values["size"]) - in_flight), in_flight, int(values.get("consumerCount", 0)))
                    found["/queue/" + str(values["destinationName"]).removeprefix("queue://")] = size
                elif correlation == last:
                    return found
            if not self._wire.read(deadline - monotonic(), lambda: bool(self._replies)):
                raise StatisticsSilent(str(self._wire.address), f"no answer within {within_s:g} s")

    def _query(self, destination: str, correlation: str, **more: str) -> bytes:
        expires = str(int((time.time() + QUESTIONS_EXPIRE_S) * 1000))
        return encode("SEND", {"destination": destination, "reply-to": self._place, "correlation-id": correlation, "expires": expires, **more})

    def wait_for_broker(self) -> None:
        """Return when the broker has read all that was asked of it; raises ConfirmationMissing."""
        receipt = self._wire.next_id()
        self._wire.request(encode("BEGIN", {"transaction": receipt, "receipt": receipt}), receipt, SECONDS_TO_ANSWER)

    def _take(self) -> Iterable[Frame]:
        while self._replies:
            yield self._replies.popleft()


def _ask_again(statistics: Statistics) -> None:
    try:
        statistics.size(_PROBED)
    except StatisticsSilent as error:
        raise StatisticsMissing(error.address, "it answers, but not this") from error


def probe(wire: StompConnection) -> None:
    """Ask on a connection of its own, because a broker without the jars cuts the one that asks.

    Raises StatisticsMissing, StatisticsSilent where it may only have stood still.
    """
    try:
        statistics = Statistics(wire)
        try:
            statistics.size(_PROBED, within_s=SECONDS_BEFORE_DOUBT)
        except StatisticsSilent:
            # Who says nothing may have no plugin, or may stand still. One that reads has had the question, and answers the next one at once.
            statistics.wait_for_broker()
            _ask_again(statistics)
    except ConfirmationMissing as error:
        raise StatisticsSilent(str(wire.address), str(error)) from error
    except (ConnectionLost, RequestRefused) as error:
        raise StatisticsMissing(str(wire.address), str(error)) from error
    finally:
        with contextlib.suppress(BrokerError):
            wire.close()
