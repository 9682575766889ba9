"""A Celery project that knows nothing of the federation but its transport; the tests start its workers as real processes."""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from kombu import Exchange, Queue
from kombu.common import Broadcast

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("sample", backend=os.environ.get("SAMPLE_RESULTS", "rpc://"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue="work",
    task_queues=[Queue("work", Exchange("work"), routing_key="work"), Broadcast("everywhere")],
    broker_transport_options={"queue_prefix": os.environ.get("SAMPLE_PREFIX", "sample.node.")},
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=5,
    worker_hijack_root_logger=False,
)


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def divide(left: int, right: int) -> float:
    return left / right


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def third_time(self: Task) -> int:
    """Succeed at the third attempt."""
    if self.request.retries < 2:
        raise self.retry()
    return int(self.request.retries)


@app.task(bind=True)
def add_in_steps(self: Task, numbers: list[int]) -> int:
    """Replace itself until nothing is left to add."""
    if len(numbers) == 1:
        return numbers[0]
    raise self.replace(add_in_steps.s([numbers[0] + numbers[1], *numbers[2:]]))


@app.task
def add_by_others(numbers: list[int]) -> int:
    """Publish an addition for each number, and return how many were sent."""
    return len([add.apply_async((number, number), ignore_result=True).id for number in numbers])


@app.task(bind=True)
def write_delivery(self: Task, folder: str, wait_for: str | None = None) -> bool:
    """Write a line a delivery, then wait until a file appears, and tell whether this was a redelivery."""
    redelivered = bool(self.request.delivery_info.get("redelivered"))
    path = Path(folder) / f"{self.request.id}.{os.getpid()}.{time.monotonic_ns()}"
    path.with_suffix(".part").write_text(f"{os.getpid()} {redelivered}")
    path.with_suffix(".part").rename(path)
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.01)
    return redelivered


@app.task(bind=True)
def done_when_back(self: Task) -> bool:
    """Go back to the queue once, and end when it comes again."""
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("not yet", requeue=True)
    return True


@app.task(bind=True)
def seen_properties(self: Task) -> dict[str, Any]:
    request = self.request
    return {
        "correlation_id": request.correlation_id,
        "reply_to": request.reply_to,
        "headers": request.headers,
        "priority": request.delivery_info["priority"],
    }
