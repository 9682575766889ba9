"""The Celery project of the soak: one task; its settings are the plan in the working directory."""

from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://
from benchmarks.soak.load import RAN, count, read_plan

app = Celery("soak")
app.conf.update(
    broker_url=read_plan().url,
    task_default_queue="soak.tasks",
    task_acks_late=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="soak.swallow")
def swallow(body: str) -> None:
    """Count."""
    count(RAN)
