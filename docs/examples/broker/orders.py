"""Each region's worker takes its own orders from one queue; one worker at a time writes the book, another stands by."""

import os
from pathlib import Path

from celery import Celery
from kombu import Queue

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("orders", broker="activemq://user:password@localhost:61613/", backend="rpc://")
app.conf.task_acks_late = True

region = os.environ.get("REGION", "eu")
app.conf.task_queues = [
    Queue("orders", routing_key="orders", consumer_arguments={"selector": f"region = '{region}'"}),
    Queue("book", routing_key="book", consumer_arguments={"exclusive": True}),
    Queue("spare", routing_key="spare", consumer_arguments={"x-priority": -1 if region == "spare" else 0}),
]
app.conf.task_routes = {"orders.take": {"queue": "orders"}, "orders.write": {"queue": "book"}, "orders.clean": {"queue": "spare"}}


@app.task
def take(number: int) -> tuple[str, int]:
    return region, number


@app.task
def write(line: str, book: str) -> int:
    with Path(book).open("a") as lines:
        lines.write(f"{line} {os.getppid()}\n")
    return os.getppid()


@app.task
def clean() -> str:
    return region


def example() -> None:
    take.apply_async((1,), stomp_headers={"region": "us"})
