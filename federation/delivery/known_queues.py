"""Says whether anybody is behind the queue that somebody named on a command line; refuses a name that is misspelt, and in doubt lets it pass."""

from collections.abc import Mapping
from difflib import get_close_matches

import click
from celery import Celery
from kombu.exceptions import KombuError

from federation.broker.destinations import queue_name
from federation.broker.errors import BrokerError
from federation.broker.opening import own_transport
from federation.broker.statistics import QueueSize
from federation.delivery.app import QUEUE_PREFIX
from federation.delivery.runtime import transactions
from federation.delivery.signer import name_of_process
from federation.errors import FederationError, NotFound
from federation.placement import node_file
from federation.services import nodes

# Words so alike are taken for one word and its misspelling: `aours` and `aorus`, but not `baby` and `baby-slow`.
_ALIKE = 0.75


def look_for(app: Celery, queue: str) -> None:
    """Pass where a node has this queue or somebody consumes it; else warn that nobody does, for its worker may come later.

    Raises click.ClickException with the nearest names where ActiveMQ has no such queue, and a node or a queue that is consumed is called almost so.
    """
    try:
        known = set(node_file.names())
        if queue in known:
            return
        with transactions().begin(name_of_process()) as session:
            known |= set(nodes.names(session))
        sizes = _sizes(app)
    except (FederationError, BrokerError, KombuError, OSError):
        return
    known |= {name for name, size in sizes.items() if size.subscriptions}
    if queue in known:
        return
    if queue not in sizes and (near := get_close_matches(queue, known, cutoff=_ALIKE)):
        raise click.ClickException(f"{NotFound('queue', queue, near)}; if it is one of your own, start the worker that consumes it first")
    click.echo(f"Warning: nobody consumes the queue {queue!r} now, and no node has this name; the message waits there.", err=True)


def _sizes(app: Celery) -> Mapping[str, QueueSize]:
    with app.connection_for_write() as connection, own_transport(connection) as transport:
        sizes = transport.statistics().sizes()
    prefix = f"/queue/{QUEUE_PREFIX}"
    return {queue_name(destination, QUEUE_PREFIX): size for destination, size in sizes.items() if destination.startswith(prefix)}
