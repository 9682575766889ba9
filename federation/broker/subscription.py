"""STOMP subscriptions of one kombu consumer: prefetch as slots, and a cancel that leaves running deliveries alone; owns no message."""

import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from time import monotonic

from federation.broker.connection import StompConnection
from federation.broker.consumer_arguments import ConsumerArguments
from federation.broker.errors import RequestRefused
from federation.broker.frames import Frame, encode

MOST_SLOTS = 16
# A channel's consumers share these out, so that a hundred queues are not 1,600 subscriptions, each of which the broker must make.
SHARED_SLOTS = 32
MOST_SLOTTED = 500
# After an ack the broker sends the next message at once; what has had none for so long has none under way.
SECONDS_TO_REST = 0.1

# So much of a topic is on its way to us at most; ActiveMQ hears of every half of it, in one ACK for all up to a message.
PREFETCH_OF_TOPICS = 1000

# Frames that end subscriptions in, all frames to be sent out.
Say = Callable[[bytes], bytes]


@dataclass(eq=False, slots=True)
class Subscription:
    """One SUBSCRIBE; `size` messages may be unsettled in it, 0 for a topic, where messages are not settled one by one."""

    id: str
    size: int
    owner: "Slots"
    in_flight: int = 0
    to_return: int = 0
    cancelled: bool = False
    rests_since: float = field(default_factory=monotonic)
    heard: int = 0

    @property
    def acknowledges(self) -> bool:
        """Whether each message is to be settled."""
        return self.size > 0

    @property
    def drained(self) -> bool:
        """Whether nothing is left here that an UNSUBSCRIBE would wrongly give to a peer."""
        return self.in_flight <= self.to_return


def most_slots(consumers: int) -> int:
    """Return how many subscriptions the latest of so many consumers of a channel may have."""
    return max(1, min(MOST_SLOTS, SHARED_SLOTS // consumers))


def slots(prefetch: int, most: int = MOST_SLOTS) -> list[int]:
    """Split a prefetch count into subscription sizes, `most` at most.

    ActiveMQ fixes the prefetch of a subscription for its life. Many small ones can be added, and taken away once each is
    idle, and an ack after a cancel invites no further message into a consumer that has ended. A very large count is meant
    as no limit at all, and is one subscription.
    """
    if prefetch > MOST_SLOTTED:
        return [prefetch]
    share, extra = divmod(prefetch, count := min(prefetch, most))
    return [share + (number < extra) for number in range(count)]


@dataclass(eq=False, slots=True)
class Slots:
    """All subscriptions of one consumer to one destination; any thread may settle."""

    wire: StompConnection
    registry: MutableMapping[str, Subscription]
    destination: str
    on_frame: Callable[[Subscription, Frame], None]
    lock: threading.RLock
    arguments: ConsumerArguments = field(default_factory=ConsumerArguments)
    most: int = MOST_SLOTS
    rest_s: float = SECONDS_TO_REST
    wanted: int = 0
    open: list[Subscription] = field(default_factory=list)

    def resize(self, prefetch: int) -> None:
        """Let `prefetch` messages be unsettled: at once if that is more, as deliveries are settled if it is less.

        An exclusive consumer keeps what it began with.
        """
        with self.lock:
            if self.arguments.exclusive and self.open:
                # A second subscription would get nothing while the first one lives.
                return
            self.wanted = prefetch
            missing = prefetch - sum(subscription.size for subscription in self.open)
            if missing > 0:
                for size in [missing] if self.arguments.exclusive else slots(missing, self.most):
                    self._subscribe(size)
            else:
                # What has come and was not handed over yet is in flight too.
                self.wire.look_for_end()
                self._say(self._shrink())

    def listen(self) -> None:
        """Subscribe to a topic, where there is nothing to acknowledge."""
        with self.lock:
            self._subscribe(0)

    def hear(self, subscription: Subscription, frame: Frame) -> None:
        """Count a message of a topic, and let the next ones come."""
        subscription.heard += 1
        if subscription.heard >= PREFETCH_OF_TOPICS // 2:
            subscription.heard = 0
            self.wire.send(encode("ACK", {"id": frame.headers["ack"]}))

    def _subscribe(self, size: int) -> None:
        subscription = self.add(size)
        try:
            subscribe(self.wire, subscription, confirm=len(self.open) == 1)
        except RequestRefused:
            self.open.remove(subscription)
            del self.registry[subscription.id]
            raise

    def add(self, size: int) -> Subscription:
        """Make a subscription known here, without a word to the broker."""
        subscription = Subscription(self.wire.next_id(), size, self)
        self.registry[subscription.id] = subscription
        self.open.append(subscription)
        return subscription

    def _shrink(self, just: Subscription | None = None) -> bytes:
        """End as many as are too many: the one that is just being settled, and those of which the broker has certainly nothing under way."""
        spare = sum(subscription.size for subscription in self.open) - self.wanted
        said, arrived, rested_before = b"", self._arrived(), monotonic() - self.rest_s
        for subscription in sorted(self.open, key=lambda one: one is not just):
            if subscription.in_flight or subscription.id in arrived:
                continue
            if subscription.size <= spare and (subscription is just or subscription.rests_since < rested_before):
                spare -= subscription.size
                self.open.remove(subscription)
                said += self._end(subscription)
        return said

    def cancel(self) -> list[Subscription]:
        """Take nothing more, and return the subscriptions for `end`; one with deliveries in flight ends when the last of them is settled."""
        with self.lock:
            ending, self.open = self.open, []
            self.wanted = 0
            for subscription in ending:
                subscription.cancelled = True
            return ending

    def end(self, cancelled: list[Subscription]) -> None:
        """End those of the cancelled subscriptions that are drained: the one with the oldest message first, for the broker appends what returns."""
        with self.lock:
            arrived = self._arrived()
            drained = [subscription for subscription in cancelled if subscription.drained]
            drained.sort(key=lambda subscription: arrived.get(subscription.id, len(arrived)))
            self._say(b"".join(map(self._end, drained)))

    def settled(self, subscription: Subscription, say: Say = bytes) -> None:
        """Count a delivery as settled, and send what `say` makes of it and of the UNSUBSCRIBE that may be due now."""
        with self.lock:
            subscription.in_flight -= 1
            subscription.rests_since = monotonic()
            ending = b""
            if subscription.cancelled:
                if subscription.drained:
                    ending = self._end(subscription)
            elif len(self.open) > 1 and sum(one.size for one in self.open) > self.wanted:
                ending = self._shrink(subscription)
            self._say(say(ending))

    def give_back(self, subscription: Subscription) -> bool:
        """Leave a delivery of a cancelled subscription to its UNSUBSCRIBE; False if the subscription lives and has none to come."""
        with self.lock:
            if not subscription.cancelled:
                return False
            subscription.to_return += 1
            if subscription.drained:
                self._say(self._end(subscription))
            return True

    def _arrived(self) -> dict[str, int]:
        # By subscription, where in the order of arrival its first message is that nobody got yet.
        arrived: dict[str, int] = {}
        for place, frame in enumerate(tuple(self.wire.inbox)):
            arrived.setdefault(frame.headers.get("subscription", ""), place)
        return arrived

    def _end(self, subscription: Subscription) -> bytes:
        known = self.registry.pop(subscription.id, None) is not None
        return encode("UNSUBSCRIBE", {"id": subscription.id}) if known else b""

    def _say(self, said: bytes) -> None:
        if said:
            self.wire.send(said)


def subscribe(wire: StompConnection, subscription: Subscription, *, confirm: bool) -> None:
    """Send SUBSCRIBE, and wait for the receipt if asked: then what is published from now on arrives.

    Raises RequestRefused if the user may not read there.
    """
    # Not «auto», where the broker acknowledges to itself what it sends, and takes that for a sign of life of a client that is frozen.
    mode, prefetch = ("client-individual", subscription.size) if subscription.acknowledges else ("client", PREFETCH_OF_TOPICS)
    headers = {"id": subscription.id, "destination": subscription.owner.destination, **subscription.owner.arguments.headers}
    headers |= {"ack": mode, "activemq.prefetchSize": str(prefetch)}
    if confirm:
        receipt = wire.next_id()
        wire.request(encode("SUBSCRIBE", {**headers, "receipt": receipt}), receipt, 30.0)
    else:
        wire.send(encode("SUBSCRIBE", headers))
