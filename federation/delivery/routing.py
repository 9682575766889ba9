"""Says to which queue a message goes whose sender named none; an execution that was recorded first is sent to its node by name."""

from collections.abc import Mapping
from typing import Any

import click
from celery import current_task

from federation.errors import InvalidInput


def route(name: str, args: Any, kwargs: Any, options: Mapping[str, Any], **_: Any) -> dict[str, str] | None:
    """Return the queue of the task that is running here, whose worker has loaded what follows on it; None where the sender has said it.

    Raises InvalidInput where no task is running: nobody would consume the message, and nobody would see it.
    """
    if options.get("queue") or options.get("routing_key"):
        return None
    running = (current_task.request.delivery_info or {}).get("routing_key") if current_task else None
    if running:
        return {"queue": running}
    error = InvalidInput("queue", None, f"the name of the node that is to run {name} (`federation status` shows them), such as --queue taichi")
    if click.get_current_context(silent=True) is None:
        raise error
    raise click.ClickException(str(error))
