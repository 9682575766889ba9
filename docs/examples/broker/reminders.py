"""Reminders that the broker keeps until they are due, not a worker's memory."""

from datetime import UTC, datetime, timedelta

from celery import Celery, Task

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("reminders", broker="activemq://user:password@localhost:61613/", backend="rpc://")


@app.task
def remind(text: str) -> str:
    return f"{text} at {datetime.now(UTC).isoformat()}"


@app.task(bind=True)
def knock(self: Task, tries: int, wait_s: float) -> str:
    if self.request.retries < tries:
        raise self.retry(countdown=wait_s, max_retries=tries)
    return f"open at {datetime.now(UTC).isoformat()}"


def example() -> None:
    remind.apply_async(("tea",), countdown=3600)
    remind.apply_async(("breakfast",), eta=datetime.now(UTC) + timedelta(days=1), expires=datetime.now(UTC) + timedelta(days=1, hours=2))
