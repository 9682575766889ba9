"""A task request in the worker's main process that pauses the consumer for want of a database; counts that against nobody."""

from typing import Any

from celery.worker.request import Request
from kombu import Message

from federation.delivery.pause import database_away, is_requeue_for_database

# The ids of what this worker gave back. It returns marked as redelivered, and the mark would count towards its quarantine.
_given_back: set[str] = set()


class PausingRequest(Request):
    """Celery's request; a requeue for want of a database pauses the consumer."""

    # Set by Celery, missing in its stubs.
    _delivery_info: dict[str, Any]

    def __init__(self, message: Message, **options: Any) -> None:
        super().__init__(message, **options)
        if self.id in _given_back:
            _given_back.discard(self.id)
            self._delivery_info["redelivered"] = False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        # A pool of processes wraps it to carry the traceback.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if is_requeue_for_database(error):
            _given_back.add(self.id)
            # First, or the message would come straight back.
            database_away.send(sender=self)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
