"""Claims as executions, so that a canvas and `celery call` claim as agents do; what waits in line takes no place in a worker."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import InvalidInput
from federation.services import claim_lines, resource_claims, task_claims
from federation.services.claims import told
from federation.settings import settings

LONGEST_WAIT_S = 86_400
# Between two looks of one who waits: soon at first, then seldom.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0


class ClaimTask(FederationTask):
    """A task whose steps hold claims together: whoever sends it without an agent is one holder for a whole canvas, and for no other."""

    # Who waits in line is sent again as often as it takes.
    max_retries = None  # type: ignore[assignment]  # Celery takes None for any number

    def acting(self) -> Any:
        """Open a transaction in the name of the agent that asked, or of the run that this belongs to."""
        return self.transaction(actor=None if self.envelope else f"run:{self.request.root_id or self.request.id}")


@shared_task(bind=True, base=FederationTask, name=task_claims.CLAIM, time_limit=60)
def claim_task(self: FederationTask, *, task_id: str, description: str, ttl_s: float) -> dict[str, Any]:
    """Claim a task for the agent that asked; losing is an answer."""
    with self.transaction() as session:
        outcome = task_claims.claim(session, task_id, description=description, ttl_s=ttl_s, is_first=self.is_first_delivery)
    return told(outcome)


@shared_task(bind=True, base=ClaimTask, name=resource_claims.CLAIM, time_limit=60)
def claim(
    self: ClaimTask, *, resource: str, description: str = "", ttl_s: float | None = None, fencing_token: int | None = None, wait_s: float = 0.0
) -> dict[str, Any]:
    """Claim a resource, or extend one's claim, after waiting in line for `wait_s` seconds at most; losing is an answer."""
    if not 0 <= wait_s <= LONGEST_WAIT_S:
        raise InvalidInput("wait_s", wait_s, f"0 to {LONGEST_WAIT_S} seconds")
    pause_s = min(FIRST_PAUSE_S * 2 ** min(self.request.retries, 10), LONGEST_PAUSE_S)
    # A worker may be late with what is sent to it with a pause.
    present_s = pause_s + claim_lines.PRESENT_S if wait_s else None
    lasting_s = settings().claim_ttl_s if ttl_s is None else ttl_s
    with self.acting() as session:
        how: dict[str, Any] = {"description": description, "ttl_s": lasting_s, "token": fencing_token, "present_s": present_s}
        outcome = resource_claims.take(session, resource, is_first=self.is_first_delivery, **how)
        if not outcome.claimed and 0 < wait_s <= outcome.waited_s:
            resource_claims.give_back(session, resource)
    if not outcome.claimed and outcome.waited_s < wait_s:
        raise self.retry(countdown=pause_s)
    return told(outcome)


@shared_task(bind=True, base=ClaimTask, name="federation.tasks.claims.release", time_limit=60)
def release(self: ClaimTask, *, resource: str) -> dict[str, Any]:
    """Give back a claim of one's own, and wait for it no more; a stranger's changes nothing."""
    with self.acting() as session:
        return asdict(resource_claims.give_back(session, resource))


@shared_task(bind=True, base=ClaimTask, name="federation.tasks.claims.check", time_limit=60)
def check(self: ClaimTask, *, resource: str, fencing_token: int) -> dict[str, Any]:
    """Pass if a claim of one's own covers the resource with this token; fails with Refused where it does not."""
    with self.acting() as session:
        resource_claims.check(session, resource, fencing_token)
    return {"resource": resource, "fencing_token": fencing_token}
