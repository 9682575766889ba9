"""The ways to send that the documentation shows, and what a killed broker may cost with each."""

import threading
import time
from typing import Any

import pytest
from kombu import pools
from kombu.exceptions import KombuError

BATCH = 50


def stored(sending: Any, bus: Any, least: int) -> list[int]:
    """The numbers of the messages in the queue, which is empty after: so many or more, as soon as the broker says so."""
    connection = bus.connect()
    told = connection.default_channel.connection.statistics()
    sizes: list[Any] = []

    def there() -> bool:
        sizes.append(told.size(f"/queue/{sending.queue}"))
        return sizes[-1] is not None and sizes[-1].waiting >= least

    bus.wait_for(there, f"{least} messages are there", else_tell=lambda: (sizes[0], sizes[-1], told.sizes()))
    size = sizes[-1]
    inbox = bus.listen(connection, sending.app.amqp.queues[sending.queue], accept=["json"], no_ack=True)
    inbox.wait(size.waiting)
    assert inbox.stays_at(size.waiting)
    return [message.decode()[0][0] for message in inbox.messages]


def test_each_way_sends_all_in_order(project: Any, bus: Any, activemq: Any) -> None:
    sending = project("sending")
    sending.module.confirmed(range(20))
    sending.module.in_batches(range(20, 1120))
    sending.module.unconfirmed(range(1120, 1200), activemq.url)
    bus.wait_for(lambda: (size := sending.size()) is not None and size.waiting == 1200, "the unconfirmed arrive")
    assert stored(sending, bus, 1200) == list(range(1200))


@pytest.mark.parametrize("way", ["confirmed", "in batches"])
def test_a_killed_broker_costs_nothing_that_was_confirmed(project: Any, bus: Any, activemq: Any, way: str) -> None:
    sending = project("sending")
    confirmed: list[int] = []
    step = 1 if way == "confirmed" else BATCH

    def send() -> None:
        for start in range(0, 100_000, step):
            try:
                if way == "confirmed":
                    sending.module.store.apply_async((start,), retry=False)
                else:
                    with sending.app.producer_or_acquire() as producer, producer.batch(max_size=BATCH):
                        for number in range(start, start + BATCH):
                            sending.module.store.apply_async((number,), producer=producer, retry=False)
            except (OSError, KombuError):
                if confirmed:
                    return
                # What the test before left of a connection or of the broker; this one's kill comes later.
                time.sleep(0.1)
                continue
            confirmed.extend(range(start, start + step))

    sender = threading.Thread(target=send)
    sender.start()
    bus.wait_for(lambda: len(confirmed) >= 10 * step, "some are confirmed")
    activemq.kill()
    sender.join(60)
    assert not sender.is_alive()
    activemq.start()
    pools.reset()
    found = stored(sending, bus, len(confirmed))
    assert found[: len(confirmed)] == confirmed
    # Of what was under way when the broker died, all or nothing.
    assert len(found) - len(confirmed) in (0, step)
