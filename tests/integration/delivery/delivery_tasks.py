"""Tasks that only the workers of these tests have."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import TransientError
from federation.services import executions


@shared_task(bind=True, base=FederationTask, name="tests.where")
def where(self: FederationTask, **kwargs: Any) -> dict[str, Any]:
    return {"node": self.node, "pid": os.getpid(), "hostname": self.request.hostname, **kwargs}


@shared_task(bind=True, base=FederationTask, name="tests.effect")
def effect(self: FederationTask, *, started: str, go: str) -> dict[str, Any]:
    """Write an effect once, then wait until the file `go` is there."""
    with self.transaction() as session:
        first = executions.once(session, "effect", {"pid": os.getpid()})
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.02)
    return {"first": first, "pid": os.getpid()}


@shared_task(bind=True, base=FederationTask, name="tests.late_effect")
def late_effect(self: FederationTask, *, started: str, go: str) -> dict[str, Any]:
    """Wait until the file `go` is there, then write an effect once."""
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.02)
    with self.transaction() as session:
        return {"first": executions.once(session, "effect", {"pid": os.getpid()})}


@shared_task(bind=True, base=FederationTask, name="tests.poison")
def poison(self: FederationTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(bind=True, base=FederationTask, name="tests.flaky")
def flaky(self: FederationTask, *, failures: int) -> int:
    if self.request.retries < failures:
        raise TransientError("not yet")
    return self.request.retries


@shared_task(bind=True, base=FederationTask, name="tests.unsendable_retry")
def unsendable_retry(self: FederationTask, *, tried: str, **_: Any) -> str:
    """Ask at the first delivery for a retry that no message can carry."""
    if not Path(tried).exists():
        Path(tried).touch()
        raise self.retry(kwargs={"tried": object()}, countdown=0)
    return "done"
