"""Tells a worker's consumer that PostgreSQL is away; the consumer then stops taking messages until it is back."""

from typing import Any

from celery.exceptions import Reject
from celery.utils.dispatch import Signal

# The reason of a requeue, as a word, because it travels from a pool's child to the worker's main process.
DATABASE_AWAY = "the database is away"

database_away = Signal(name="federation.database_away")


def requeue() -> Reject:
    """Return what a task raises to give its message back."""
    return Reject(DATABASE_AWAY, requeue=True)


def is_requeue_for_database(error: Any) -> bool:
    """Return whether a task gave its message back because of the database."""
    return isinstance(error, Reject) and error.args == (DATABASE_AWAY, True)
