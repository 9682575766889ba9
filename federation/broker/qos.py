"""The deliveries of one channel that are not settled yet; the broker keeps the messages, so nothing is restored from here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from federation.broker.bases import BaseQoS
from federation.broker.frames import Frame
from federation.broker.subscription import Say, Subscription


@dataclass(eq=False, slots=True)
class Delivery:
    """One delivered frame, the subscription that is told when it is settled, and whoever else wants to know.

    `request` is what Celery's worker made of it, see `leaving`.
    """

    frame: Frame
    subscription: Subscription
    on_settled: Callable[[Frame], None] | None = None
    request: Any = None

    def settled(self, say: Say = bytes) -> None:
        """Send the frames that settle it, and tell that nothing is left to do with it here. Raises ConnectionLost."""
        self.subscription.owner.settled(self.subscription, say)
        if self.on_settled is not None:
            self.on_settled(self.frame)


class QoS(BaseQoS):  # type: ignore[misc]  # see bases
    """kombu's interface over `Delivery` values; any thread may settle."""

    restore_at_shutdown = False

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        # Without the base's Finalize: it would requeue at exit what the broker returns by itself.
        self.channel = channel
        self.prefetch_count = prefetch_count or 0
        # No lock, which a signal's handler would wait for in vain: each use of it is one operation of a dict.
        self._deliveries: dict[int, Delivery] = {}
        self._withheld = False

    def __len__(self) -> int:
        return len(self._deliveries)

    def can_consume(self) -> bool:
        """Always: the broker holds back what is beyond the prefetch count."""
        return True

    def can_consume_max_estimate(self) -> int | None:
        """Return how many more messages the prefetch count lets in, None without one."""
        return max(self.prefetch_count - len(self._deliveries), 0) if self.prefetch_count else None

    def append(self, message: Delivery, delivery_tag: int) -> None:
        """Remember a delivery."""
        self._deliveries[delivery_tag] = message

    def get(self, delivery_tag: int) -> Delivery:
        """Return an unsettled delivery; raises KeyError."""
        return self._deliveries[delivery_tag]

    def withhold(self) -> None:
        """Have nothing settled any more by its tag: who says so was cut off. The broker redelivers it when the connection ends."""
        self._withheld = True

    def take(self, delivery_tag: int, *, multiple: bool = False) -> list[Delivery]:
        """Remove and return the delivery, or all up to it; an unknown tag was settled before, and returns nothing."""
        if self._withheld:
            return []
        tags = [tag for tag in list(self._deliveries) if tag <= delivery_tag] if multiple else [delivery_tag]
        return self._taken(tags)

    def where(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Return the unsettled deliveries for which that holds, oldest first."""
        return [delivery for delivery in list(self._deliveries.values()) if wanted(delivery)]

    def take_where(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove and return the unsettled deliveries for which that holds, oldest first."""
        return self._taken([tag for tag, delivery in list(self._deliveries.items()) if wanted(delivery)])

    def _taken(self, tags: Iterable[int]) -> list[Delivery]:
        # What another thread settles meanwhile is that one's.
        return [delivery for tag in tags if (delivery := self._deliveries.pop(tag, None)) is not None]

    def take_all(self) -> list[Delivery]:
        """Remove and return every unsettled delivery, oldest first."""
        return self.take_where(lambda _: True)

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge one delivery."""
        self.channel.basic_ack(delivery_tag)

    def reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Reject one delivery."""
        self.channel.basic_reject(delivery_tag, requeue=requeue)

    def restore_unacked(self) -> list[Any]:
        """Give every unsettled delivery back to its queue, oldest first."""
        for delivery in self.take_all():
            self.channel.requeue(delivery)
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Do nothing: the broker redelivers what was not settled when the connection ends."""
