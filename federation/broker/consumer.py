"""One kombu consumer: frames of its subscriptions in, messages to its callback out; settles nothing but what needs no ack."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from federation.broker.celery_worker import pool_of
from federation.broker.consumer_arguments import ConsumerArguments
from federation.broker.errors import ArgumentRefused, RequestRefused
from federation.broker.frames import Frame
from federation.broker.leaving import is_ending, request_of
from federation.broker.message import Message
from federation.broker.peer_headers import GROUP_HEADER
from federation.broker.qos import Delivery
from federation.broker.subscription import Slots, Subscription
from federation.broker.turns import Turns

if TYPE_CHECKING:
    # The channel makes consumers: at run time this would be a circle.
    from federation.broker.channel import Channel

_BAD_SELECTOR = "InvalidSelectorException"


@dataclass(frozen=True, slots=True)
class Source:
    """A destination that feeds a kombu queue; `binding` filters a topic that brings more than was asked for."""

    destination: str
    binding: str | None = None

    @property
    def is_topic(self) -> bool:
        """Whether messages come without need of an ack, and only while we listen."""
        return self.destination.startswith("/topic/")


def binding_pattern(binding: str) -> re.Pattern[str]:
    """Compile an AMQP binding key: `*` is one word, `#` any number of them."""
    words = [{"*": r"[^.]+", "#": r".*"}.get(word, re.escape(word)) for word in binding.split(".")]
    return re.compile(r"\.?".join(words) if "#" in binding else r"\.".join(words))


class Consumer:
    """Subscribes to all sources of a queue; with `no_ack` a message is settled as it is handed over."""

    def __init__(self, channel: "Channel", queue: str, *, tag: str, no_ack: bool, callback: Callable[[Message], object]) -> None:
        self.queue, self.tag = queue, tag
        self._channel, self._no_ack, self._callback = channel, no_ack, callback
        self._lock = threading.RLock()
        self._all: list[Slots] = []
        self._turns = Turns()
        self.pool = pool_of(callback)
        self._left: list[Frame] = []

    def start(self, sources: Sequence[Source], prefetch: int, arguments: ConsumerArguments, most: int) -> None:
        """Subscribe, `most` times at most to one source; when it returns, the broker knows of it.

        Raises RequestRefused if the user may not read there, ArgumentRefused if the broker does not understand the selector.
        """
        for source in sources:
            pattern = binding_pattern(source.binding) if source.binding is not None else None
            receive = partial(self._receive, pattern)
            slots = Slots(self._channel.wire, self._channel.subscriptions, source.destination, receive, self._lock, arguments, most)
            self._all.append(slots)
            try:
                if source.is_topic:
                    slots.listen()
                else:
                    slots.resize(prefetch)
            except RequestRefused as error:
                if _BAD_SELECTOR in error.details:
                    raise ArgumentRefused("selector", arguments.headers["selector"], "ActiveMQ does not understand it") from error
                raise

    def has(self, delivery: Delivery) -> bool:
        """Whether a delivery came to it."""
        return delivery.subscription.owner in self._all

    def resize(self, prefetch: int) -> None:
        """Follow a change of the channel's prefetch count."""
        for slots in self._all:
            if not slots.destination.startswith("/topic/"):
                slots.resize(prefetch)

    @contextmanager
    def cancelling(self) -> Iterator[None]:
        """Take no more messages; what nobody got returns when the block ends, what is in flight stays ours until it is settled."""
        with self._lock:
            ended = [(slots, slots.cancel()) for slots in self._all]
            # Nobody got them: their UNSUBSCRIBE may return them.
            for held in self._turns.drop_all():
                held.subscription.in_flight -= 1
            # Back to where they were: their order decides in which subscriptions end.
            self._channel.wire.inbox.extendleft(reversed(self._left))
            self._left.clear()
        yield
        for slots, cancelled in ended:
            slots.end(cancelled)

    def _receive(self, pattern: re.Pattern[str] | None, subscription: Subscription, frame: Frame) -> None:
        channel = self._channel
        with self._lock:
            if subscription.cancelled:
                # Too late: the UNSUBSCRIBE that is to come returns it to the queue.
                return
            if self.pool is not None and is_ending():
                # A pool that runs tasks in the loop, or holds it up, has been told to end meanwhile. It would begin all that has come.
                self._left.append(frame)
                return
            group = None if self._no_ack else frame.headers.get(GROUP_HEADER)
            if group is None or not self._turns.was_called(frame):
                subscription.in_flight += 1
                if not subscription.acknowledges:
                    subscription.owner.hear(subscription, frame)
                if group is not None and not self._turns.take(group, subscription, frame):
                    return
        tag = channel.next_tag()
        message = Message.from_frame(frame, queue=self.queue, channel=channel, delivery_tag=tag, consumer_tag=self.tag)
        delivery = Delivery(frame, subscription, None if group is None else self._end_turn)
        if channel.quarantined(delivery, message):
            return
        unwanted = pattern is not None and not pattern.fullmatch(message.delivery_info["routing_key"])
        if self._no_ack or unwanted:
            channel.acknowledge(delivery)
        else:
            channel.qos.append(delivery, tag)
        if not unwanted:
            self._callback(message)
            delivery.request = request_of(message)

    def _end_turn(self, frame: Frame) -> None:
        with self._lock:
            called = self._turns.call_next(frame.headers[GROUP_HEADER])
        if called is not None:
            # Through the inbox, because any thread may settle and only one may hand over.
            self._channel.wire.put_back(called)
