"""Prefetch as slots: sizes add up, and no subscription ends while it would give away what is running."""

import threading
from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from federation.broker.frames import Decoder, Frame
from federation.broker.subscription import MOST_SLOTS, Slots, Subscription, most_slots, slots


@given(st.integers(1, 5000), st.integers(1, MOST_SLOTS))
def test_sizes_add_up_to_the_prefetch_count(prefetch: int, most: int) -> None:
    sizes = slots(prefetch, most)
    assert sum(sizes) == prefetch
    assert min(sizes) > 0
    assert len(sizes) <= most


def test_many_consumers_share_few_subscriptions() -> None:
    assert [most_slots(consumers) for consumers in (1, 2, 4, 100)] == [MOST_SLOTS, MOST_SLOTS, 8, 1]
    assert sum(most_slots(consumers) for consumers in range(1, 101)) < 250


class Wire:
    """The outermost edge: remembers which subscriptions the broker would know."""

    def __init__(self) -> None:
        self.subscribed: dict[str, int] = {}
        self.inbox: deque[Frame] = deque()
        self.count = 0

    def next_id(self) -> str:
        self.count += 1
        return str(self.count)

    def send(self, data: bytes) -> None:
        for frame in Decoder().feed(data):
            if frame.command == "SUBSCRIBE":
                self.subscribed[frame.headers["id"]] = int(frame.headers["activemq.prefetchSize"])
            else:
                del self.subscribed[frame.headers["id"]]

    def look_for_end(self) -> None:
        """Nothing arrives by itself here."""

    def request(self, data: bytes, receipt: str, timeout_s: float) -> None:
        self.send(data)


class SlotsFollowPrefetch(RuleBasedStateMachine):
    """Any order of deliveries, settlements, changes of the prefetch count and one cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.registry: dict[str, Subscription] = {}
        self.slots = Slots(self.wire, self.registry, "/queue/q", self._ignore, threading.RLock(), rest_s=-1)  # type: ignore[arg-type]
        self.slots.resize(2)
        self.running: list[Subscription] = []
        self.returned: list[Subscription] = []
        self.cancelled = False

    def _ignore(self, _subscription: Subscription, _frame: Frame) -> None:
        pass

    @precondition(lambda self: not self.cancelled)
    @rule(prefetch=st.integers(1, 40))
    def resize(self, prefetch: int) -> None:
        self.slots.resize(prefetch)

    @precondition(lambda self: not self.cancelled)
    @rule(choice=st.integers(0, 1000))
    def deliver(self, choice: int) -> None:
        free = [one for one in self.registry.values() if one.in_flight + self.arrived(one) < one.size]
        if free:
            self.wire.inbox.append(Frame("MESSAGE", {"subscription": free[choice % len(free)].id}))

    def arrived(self, subscription: Subscription) -> int:
        return sum(frame.headers["subscription"] == subscription.id for frame in self.wire.inbox)

    @precondition(lambda self: self.wire.inbox)
    @rule()
    def hand_over(self) -> None:
        subscription = self.registry.get(self.wire.inbox.popleft().headers["subscription"])
        if subscription is not None and not subscription.cancelled:
            subscription.in_flight += 1
            self.running.append(subscription)

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 1000))
    def settle(self, choice: int) -> None:
        self.slots.settled(self.running.pop(choice % len(self.running)))

    @precondition(lambda self: self.running and self.cancelled)
    @rule(choice=st.integers(0, 1000))
    def requeue(self, choice: int) -> None:
        chosen = self.running.pop(choice % len(self.running))
        assert self.slots.give_back(chosen)

    @precondition(lambda self: not self.cancelled)
    @rule()
    def cancel(self) -> None:
        self.slots.end(self.slots.cancel())
        self.cancelled = True

    @rule()
    def wait(self) -> None:
        """After the cancel there may be nothing left to do."""

    @invariant()
    def the_broker_holds_each_subscription_that_has_a_running_delivery(self) -> None:
        assert self.wire.subscribed.keys() == self.registry.keys()
        assert Counter(one.id for one in self.running).keys() <= self.wire.subscribed.keys()
        if not self.cancelled:
            assert {frame.headers["subscription"] for frame in self.wire.inbox} <= self.wire.subscribed.keys()

    @invariant()
    def no_more_is_open_than_wanted_or_running(self) -> None:
        if self.cancelled:
            assert set(self.registry) == {one.id for one in self.running}
        else:
            total = sum(one.size for one in self.slots.open)
            assert total >= self.slots.wanted
            # One that ran when the count fell, and then had another message, ends with the next that is settled.
            idle = [one for one in self.slots.open if not one.in_flight and not self.arrived(one)]
            assert self.running or self.wire.inbox or all(one.size > total - self.slots.wanted for one in idle)


TestSlotsFollowPrefetch = SlotsFollowPrefetch.TestCase
