"""The broker dies in the middle of confirmed sends: what was confirmed is there afterwards, as an independent client sees it."""

import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.faults.diary import some, wait_for
from tests.faults.publishing import Sender
from tests.faults.witness import read_all
from tests.toll import Toll

MESSAGES, SENDERS, KILLS = 2000, 4, 2


@pytest.mark.fault("transport: broker SIGKILLed during confirmed sends")
def test_two_thousand_confirmed_messages_survive_a_killed_broker(broker: Any, prefix: str, dice: random.Random, toll: Toll) -> None:
    bodies = [f"message {number}" for number in range(MESSAGES)]
    senders = [Sender(broker.url, f"{prefix}confirmed", bodies[start::SENDERS], confirm_timeout=5) for start in range(SENDERS)]
    for sender in senders:
        sender.start()
    for count in sorted(dice.sample(range(100, MESSAGES - 200), KILLS)):
        wait_for(lambda count=count: sum(len(sender.confirmed) for sender in senders) >= count, f"{count} messages are confirmed")
        broker.kill()
        broker.start()
        began, before = time.monotonic(), {sender: len(sender.confirmed) for sender in senders if sender.is_alive()}
        wait_for(lambda before=before: all(len(sender.confirmed) > had or not sender.is_alive() for sender, had in before.items()), "all send again")
        toll.recovery_s.append(time.monotonic() - began)
    for sender in senders:
        sender.join(120)
        assert sender.failure is None
        assert not sender.is_alive(), f"only {len(sender.confirmed)} of a sender's messages were confirmed"
    confirmed = {body for sender in senders for body in sender.confirmed}
    tried_again = sum((sender.tried_again for sender in senders), Counter[str]())
    assert confirmed == set(bodies)
    seen = read_all(broker, f"/queue/{prefix}confirmed", confirmed)
    found = Counter(message.body for message in seen)
    toll.happened(KILLS, work=MESSAGES, lost=len(confirmed - found.keys()))
    assert confirmed <= found.keys(), f"confirmed and lost: {some(confirmed - found.keys())}"
    # Each kill left the senders without an answer; a message may be stored all the same, and is published again under its id.
    doubled = {body for body, times in found.items() if times > 1 + tried_again[body]}
    assert not doubled, f"doubled without a reason: {some(doubled)}"
    assert tried_again, "no kill hit a send"
