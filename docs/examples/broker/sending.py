"""Three ways to send, from the safest to the fastest for single messages."""

from collections.abc import Iterable

import kombu
from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("sending", broker="activemq://user:password@localhost:61613/")


@app.task(ignore_result=True)
def store(number: int) -> int:
    return number


def confirmed(numbers: Iterable[int]) -> None:
    for number in numbers:
        # When this returns, the message is on the broker's disk.
        store.delay(number)


def in_batches(numbers: Iterable[int]) -> None:
    with app.producer_or_acquire() as producer, producer.batch(max_size=500):
        for number in numbers:
            store.apply_async((number,), producer=producer)
    # Each 500 are one transaction: when a flush returns, all of them are on disk; when it raises, all of them or none.


def unconfirmed(numbers: Iterable[int], url: str) -> None:
    with kombu.Connection(url, transport_options={"confirm_publish": False}) as connection:
        producer = kombu.Producer(connection)
        for number in numbers:
            # When this returns, the message is in this machine's socket buffer.
            store.apply_async((number,), producer=producer)
