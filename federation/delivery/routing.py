"""Says to which queue a message goes whose sender named none; an execution that was recorded first is sent to its node by name."""

from collections.abc import Mapping
from typing import Any

import click
from celery import current_task

from federation.delivery import known_queues
from federation.delivery.app import application
from federation.errors import InvalidInput


def route(name: str, args: Any, kwargs: Any, options: Mapping[str, Any], **_: Any) -> dict[str, str] | None:
    """Return the queue of the task that is running here, whose worker has loaded what follows on it; None where the sender has said it.

    Raises InvalidInput where no task is running: nobody would consume the message, and nobody would see it. A name that a person gave on the command
    line is looked at; one in a program is not, because its worker may be started later, and the look takes longer than the sending.
    """
    context = click.get_current_context(silent=True)
    if options.get("queue") or options.get("routing_key"):
        if context is not None and context.info_name == "call" and not (options.get("routing_key") or options.get("exchange")):
            known_queues.look_for(application(), options["queue"].name)
        return None
    running = (current_task.request.delivery_info or {}).get("routing_key") if current_task else None
    if running:
        return {"queue": running}
    error = InvalidInput("queue", None, f"the name of the node that is to run {name} (`federation status` shows them), such as --queue taichi")
    if context is None:
        raise error
    raise click.ClickException(str(error))
