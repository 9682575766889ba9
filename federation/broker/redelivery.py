"""The hook that judges redelivered messages: its types, and how it is found and asked; keeps no count itself."""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.utils.imports import symbol_by_name

from federation.broker.errors import OptionRefused

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Redelivered:
    """A message that somebody may have had before; `message_id` stays the same however often it comes back."""

    message_id: str
    queue: str
    task: str | None
    headers: Mapping[str, Any]


# Returns None to deliver, or the reason to put the message into the dead-letter queue.
Hook = Callable[[Redelivered], str | None]


def find_hook(given: Hook | str | None) -> Hook | None:
    """Return the hook that the transport option names; raises OptionRefused if there is none of that name."""
    if not isinstance(given, str):
        return given
    try:
        found: Hook = symbol_by_name(given, imp=_import)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise OptionRefused("on_redelivered", given, f"a function that can be imported: {error}") from error
    if not callable(found):
        raise OptionRefused("on_redelivered", given, f"a function, and not of type {type(found).__name__}")
    return found


def _import(name: str, package: str | None = None, **_: Any) -> Any:
    # Also from where we are, as `celery -A` finds the app itself.
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name, package)
    finally:
        if added:
            sys.path.remove(here)


def verdict(hook: Hook, message: Redelivered) -> str | None:
    """Ask the hook; one that fails lets the message through, because a store that is away must not empty the queue."""
    try:
        return hook(message)
    except Exception:  # whatever a user's function raises would end the worker
        logger.exception("the hook on_redelivered failed for message %s of %s; it is delivered", message.message_id, message.queue)
        return None
