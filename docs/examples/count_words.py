"""A task of one's own: counts the words of a file, and has its effect once, however often it is delivered."""

from pathlib import Path

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import InvalidInput, TransientError
from federation.services import executions


@shared_task(bind=True, base=FederationTask, name="examples.count_words", time_limit=60)
def count_words(self: FederationTask, *, path: str) -> dict[str, int]:
    """Count the words of a text file."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise InvalidInput("path", path, "a file on the node's disk") from error
    except BlockingIOError as error:
        # Tried again by itself, later and later.
        raise TransientError(f"{path} is busy") from error
    words = 0
    for number, line in enumerate(lines, 1):
        words += len(line.split())
        if number % 10_000 == 0:
            self.tell_progress(number, len(lines), "lines")
    with self.transaction() as session:
        # True to the first delivery alone; what else is written in this transaction is written together with it, or not at all.
        executions.once(session, "counted", {"path": path, "words": words})
    return {"words": words}
