"""Two thousand messages through a network that delays, cuts and half-closes at random points, both ways."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.faults.diary import some, wait_for
from tests.faults.proxy import Fate, Trouble, proxy
from tests.faults.publishing import Sender
from tests.faults.receiving import Receiver
from tests.faults.witness import Seen, read_all
from tests.toll import Toll

MESSAGES, SENDERS = 2000, 2
TROUBLES: tuple[Trouble, ...] = ("close", "reset", "half-close")

pytestmark = pytest.mark.long


def fates(seed: str, most_bytes: int) -> Any:
    """Return what happens to the n-th connection: each trouble in turn, anywhere from the first word on."""

    def fate_of(number: int) -> Fate:
        dice = random.Random(f"{seed} {number}")
        # Some do not survive the handshake.
        after = dice.randrange(1, 300) if dice.random() < 0.15 else dice.randrange(300, most_bytes)
        return Fate(TROUBLES[number % 3], after, pause_chance=0.005, longest_pause_s=0.1, seed=f"{seed} {number}")

    return fate_of


@pytest.mark.fault("transport: connections closed, reset and half-closed")
def test_two_thousand_messages_pass_a_bad_network_both_ways(broker: Any, prefix: str, seed: str, tell: Callable[[str], None], toll: Toll) -> None:
    queue = f"{prefix}network"
    bodies = [f"message {number}" for number in range(MESSAGES)]
    with (
        proxy(broker.host, broker.port, fates(f"{seed} out", 60_000)) as way_out,
        proxy(broker.host, broker.port, fates(f"{seed} in", 100_000)) as way_in,
    ):
        receiver = Receiver(way_in.url(broker.url), queue, heartbeat=1)
        receiver.start()
        senders = [Sender(way_out.url(broker.url), queue, bodies[start::SENDERS], confirm_timeout=2) for start in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(120)
            assert sender.failure is None
            assert not sender.is_alive(), f"only {len(sender.confirmed)} of a sender's messages were confirmed"
        missing = lambda: set(bodies) - {arrival.body for arrival in list(receiver.arrivals)}  # noqa: E731
        wait_for(lambda: not missing() or receiver.failure, lambda: f"all confirmed messages arrive; missing are {some(missing())}")
        assert receiver.failure is None
        happened = {"out": dict(way_out.happened), "in": dict(way_in.happened)}
        receiver.stop()
        troubles_at = way_in.troubles_at
    tell(f"{happened}")
    toll.recovery_s += [held_up_s for sender in senders for held_up_s in sender.held_up_s]
    # Until something came over a connection that is younger than the trouble; after the last message nothing more can come.
    again = (next((arrival.at - at for arrival in receiver.arrivals if arrival.since > at), None) for at in troubles_at)
    toll.recovery_s += [seconds for seconds in again if seconds is not None]
    toll.happened(sum(way.get(trouble, 0) for way in happened.values() for trouble in TROUBLES), work=MESSAGES, lost=len(missing()))
    assert all(way.get(trouble) for way in happened.values() for trouble in (*TROUBLES, "pause")), f"the network was too good: {happened}"
    # What the last loss of a connection gave back, and what nobody knows of.
    left = read_all(broker, f"/queue/{queue}", [])
    assert {message.body for message in left} <= set(bodies)
    tried_again = sum((sender.tried_again for sender in senders), Counter[str]())
    marked = sum(arrival.redelivered for arrival in receiver.arrivals)
    tell(f"{len(receiver.arrivals)} arrivals, {marked} marked as redelivered, {len(tried_again)} published again, {len(left)} left")
    check_doubles(receiver, left, tried_again)


def check_doubles(receiver: Receiver, left: Sequence[Seen], tried_again: Counter[str]) -> None:
    """Fail if a message came again, or lies in the queue to come again, without a reason that shows.

    A redelivery is marked as such. A message that was published again, because its receipt did not come, is another one to the
    broker and so has no mark; it carries the id of the first, and the publisher knows how often it tried.
    """
    assert all(arrival.message_id == arrival.body for arrival in receiver.arrivals)
    unmarked = Counter(arrival.message_id for arrival in receiver.arrivals if not arrival.redelivered)
    unmarked += Counter(message.body for message in left if not message.redelivered)
    unexplained = {name for name, times in unmarked.items() if times > 1 + tried_again[name]}
    assert not unexplained, f"came again without a mark: {some(unexplained)}"
