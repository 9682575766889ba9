"""Tasks that only the workers of these tests have."""

import logging
import os
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import TransientError
from federation.services import executions, messages
from federation.store import outbox

logger = logging.getLogger(__name__)


def tell(path: str, value: object) -> None:
    """Write a value into a file that is there only when all of it is written."""
    unready = Path(f"{path}.{uuid.uuid4().hex}")
    unready.write_text(str(value))
    unready.replace(path)


@shared_task(bind=True, base=FederationTask, name="tests.where")
def where(self: FederationTask, **kwargs: Any) -> dict[str, Any]:
    return {"node": self.node, "pid": os.getpid(), "hostname": self.request.hostname, **kwargs}


@shared_task(bind=True, base=FederationTask, name="tests.leave_a_mark")
def leave_a_mark(self: FederationTask, *, path: str, **_: Any) -> str:
    """Leave a file, by which one sees that it ran."""
    tell(path, self.request.id)
    return path


@shared_task(bind=True, base=FederationTask, name="tests.hand_on")
def hand_on(self: FederationTask, *, to: str) -> str:
    """Record an execution for another node; return its id."""
    with self.transaction() as session:
        return str(outbox.record(session, "tests.where", {"sender": self.node}, requirements={"node": to}))


@shared_task(name="tests.clock")
def clock() -> float:
    """Return the time that this process believes in, in seconds since 1970."""
    return time.time()


@shared_task(bind=True, base=FederationTask, name="tests.effect")
def effect(self: FederationTask, *, started: str, go: str, conversation_id: str | None = None) -> dict[str, Any]:
    """Write an effect once, and say so to all in a conversation if there is one; then wait until the file `go` is there."""
    with self.transaction() as session:
        first = executions.once(session, "effect", {"pid": os.getpid()})
        if first and conversation_id:
            # No key keeps this from being there twice.
            messages.send(session, "done", conversation_id=conversation_id, data={"execution": str(self.execution_id)}, counted=False)
    tell(started, os.getpid())
    while not Path(go).exists():
        time.sleep(0.02)
    return {"first": first, "pid": os.getpid()}


@shared_task(bind=True, base=FederationTask, name="tests.step")
def step(self: FederationTask, *, number: int, seconds: float = 0.0) -> int:
    """Take some time and say the number to all in the conversation `steps`, once."""
    # Not time.sleep, which fails where a library makes the clock jump.
    threading.Event().wait(seconds)
    with self.transaction() as session:
        if executions.once(session, "said", {"number": number}):
            messages.send(session, f"step {number}", conversation_id="steps", data={"number": number})
        else:
            logger.warning("step %d has been said already", number)
    return number


@shared_task(bind=True, base=FederationTask, name="tests.late_effect")
def late_effect(self: FederationTask, *, started: str, go: str) -> dict[str, Any]:
    """Wait until the file `go` is there, then write an effect once."""
    tell(started, os.getpid())
    while not Path(go).exists():
        time.sleep(0.02)
    with self.transaction() as session:
        return {"first": executions.once(session, "effect", {"pid": os.getpid()})}


@shared_task(bind=True, base=FederationTask, name="tests.limited", time_limit=1)
def limited(self: FederationTask, *, started: str, go: str) -> dict[str, Any]:
    """As `late_effect`, which is given longer."""
    return late_effect.run(started=started, go=go)


@shared_task(bind=True, base=FederationTask, name="tests.waits_for_another", time_limit=2)
def waits_for_another(self: FederationTask, *, started: str) -> None:
    """Wait for what never comes, unless somebody ends the wait."""
    ended = threading.Event()
    with self.ended_by(ended.set):
        tell(started, os.getpid())
        ended.wait(600)
        raise ConnectionError("the other was left")


@shared_task(bind=True, base=FederationTask, name="tests.limited_in_a_transaction", time_limit=1)
def limited_in_a_transaction(self: FederationTask, *, started: str, go: str) -> dict[str, Any]:
    """Be in the middle of a transaction when the time is over, and end otherwise than well after that."""
    with self.transaction() as session:
        executions.once(session, "effect", {"pid": os.getpid()})
        tell(started, os.getpid())
        while not Path(go).exists():
            time.sleep(0.02)
    raise TransientError("to be tried again, if it were not too late")


@shared_task(bind=True, base=FederationTask, name="tests.breaks_off")
def breaks_off(self: FederationTask, *, how: str) -> None:
    """End as if the whole process should."""
    raise {"memory": MemoryError("no room for 12 GiB"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[how]


@shared_task(bind=True, base=FederationTask, name="tests.poison")
def poison(self: FederationTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(bind=True, base=FederationTask, name="tests.flaky")
def flaky(self: FederationTask, *, failures: int) -> int:
    if self.request.retries < failures:
        raise TransientError("not yet")
    return self.request.retries


@shared_task(bind=True, base=FederationTask, name="tests.later")
def later(self: FederationTask, *, countdown: float) -> float:
    """Be tried again after some seconds; return what time it is then, in seconds since 1970."""
    if not self.request.retries:
        raise self.retry(countdown=countdown)
    return time.time()


@shared_task(bind=True, base=FederationTask, name="tests.unsendable_retry")
def unsendable_retry(self: FederationTask, *, tried: str, **_: Any) -> str:
    """Ask at the first delivery for a retry that no message can carry."""
    if not Path(tried).exists():
        Path(tried).touch()
        raise self.retry(kwargs={"tried": object()}, countdown=0)
    return "done"


@shared_task(bind=True, base=FederationTask, name="tests.progress")
def progress(self: FederationTask, *, started: str, go: str) -> str:
    """Tell how far it is until it is told to go on, then once more."""
    self.tell_progress(1, 3, "chewing")
    tell(started, os.getpid())
    while not Path(go).exists():
        time.sleep(0.02)
    self.tell_progress(2, 3, "chewing")
    return "done"


@shared_task(bind=True, base=FederationTask, name="tests.deadly_until")
def deadly_until(self: FederationTask, *, cure: str) -> dict[str, Any]:
    """Write an effect once, then kill this process unless the file `cure` is there."""
    with self.transaction() as session:
        first = executions.once(session, "effect", {"pid": os.getpid()})
    if not Path(cure).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return {"first": first}
