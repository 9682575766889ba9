"""Taking one message, or all of them, from a queue without a standing consumer."""

from collections import deque
from collections.abc import MutableMapping
from threading import RLock

from federation.broker.connection import StompConnection
from federation.broker.frames import Frame, encode
from federation.broker.qos import Delivery
from federation.broker.statistics import Statistics
from federation.broker.subscription import Slots, Subscription, subscribe

# Without statistics nothing but silence says that a queue is empty.
SECONDS_OF_SILENCE = 0.25
# With statistics, how often the broker may say that a message waits before one that does not come is taken for another's: it may be of a
# group that another consumer has. Counted in answers, not in seconds, so that a broker that stands still for some of them hides nothing.
MOST_ANSWERS = 40
SECONDS_BETWEEN_ANSWERS = 0.025
PURGE_PREFETCH = 1000


def _ignore(_subscription: Subscription, _frame: Frame) -> None:
    # Frames that come after the collecting has ended are returned by UNSUBSCRIBE.
    pass


def _arrives(wire: StompConnection, destination: str, frames: deque[Frame], statistics: Statistics | None) -> bool:
    """Wait for a first frame; False as soon as it is clear that there is none."""
    if statistics is None:
        return wire.read(SECONDS_OF_SILENCE, lambda: bool(frames))
    for _ in range(MOST_ANSWERS):
        if frames:
            break
        # The answer travels behind any message that the broker had already given to us.
        size = statistics.size(destination)
        if frames:
            break
        if size is None or size.waiting == 0:
            return False
        wire.read(SECONDS_BETWEEN_ANSWERS, lambda: bool(frames))
    return bool(frames)


def fetch_one(wire: StompConnection, destination: str, registry: MutableMapping[str, Subscription], statistics: Statistics | None) -> Delivery | None:
    """Subscribe for one message and end the subscription when it is settled; None if none is free."""
    slots = Slots(wire, registry, destination, _ignore, RLock())
    subscription = slots.add(1)
    frames = wire.collect(subscription.id)
    try:
        subscribe(wire, subscription, confirm=True)
        if _arrives(wire, destination, frames, statistics):
            subscription.in_flight = 1
    finally:
        wire.stop_collecting(subscription.id)
    slots.end(slots.cancel())
    return Delivery(frames[0], subscription) if subscription.in_flight else None


def drain_queue(wire: StompConnection, destination: str, statistics: Statistics | None) -> int:
    """Remove what waits in a queue; return how many messages that were."""
    identity = wire.next_id()
    frames = wire.collect(identity)
    removed = 0
    try:
        headers = {"id": identity, "destination": destination, "ack": "auto", "activemq.prefetchSize": str(PURGE_PREFETCH)}
        receipt = wire.next_id()
        wire.request(encode("SUBSCRIBE", {**headers, "receipt": receipt}), receipt, 30.0)
        while _arrives(wire, destination, frames, statistics):
            while frames:
                frames.popleft()
                removed += 1
        receipt = wire.next_id()
        wire.request(encode("UNSUBSCRIBE", {"id": identity, "receipt": receipt}), receipt, 30.0)
        removed += len(frames)
    finally:
        wire.stop_collecting(identity)
    return removed
