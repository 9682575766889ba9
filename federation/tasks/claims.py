"""Claims as executions, so that agents, canvas and `celery call` claim alike."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.services import tasks


@shared_task(bind=True, base=FederationTask, name=tasks.CLAIM, time_limit=60)
def claim_task(self: FederationTask, *, task_id: str, description: str, ttl_s: float) -> dict[str, Any]:
    """Claim a task for the agent that asked; losing is an answer."""
    with self.transaction() as session:
        outcome = asdict(tasks.claim(session, task_id, description=description, ttl_s=ttl_s))
    return {**outcome, "expires_at": outcome["expires_at"].isoformat()}
