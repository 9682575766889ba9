"""A Celery project whose tasks wait until they are told to end; an ETA is left to the worker's memory."""

import os
import time
from pathlib import Path

from celery import Celery, Task
from celery.exceptions import Reject

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("pool_app", backend="rpc://")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_transport_options={"schedule_eta": False, "dead_letter_queue": os.environ.get("DEAD_LETTER_QUEUE", "DLQ.{queue}")},
)


@app.task(bind=True)
def hold(self: Task, folder: str, wait_for: str | None = None) -> None:
    """Leave a file for each time that this runs, then wait until another file appears."""
    Path(folder, f"{self.request.id}.{os.getpid()}.{time.monotonic_ns()}").touch()
    while wait_for and not Path(folder, wait_for).exists():
        time.sleep(0.01)


@app.task
def refuse() -> None:
    raise Reject("not wanted", requeue=False)
