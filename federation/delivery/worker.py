"""Makes `celery -A federation worker -Q <node>` a node: host name, pool and concurrency from its file, then its life."""

import gc
import logging
import os
import socket
import uuid
import warnings
from typing import Any

import click
from celery import bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.nodenames import default_nodename
from click.core import ParameterSource

from federation.delivery import logs, machine
from federation.delivery.node_life import NodeLife
from federation.delivery.questions import Questions
from federation.delivery.runtime import runtime, take_short_turns
from federation.delivery.signer import act_as
from federation.errors import FederationError, SettingsError
from federation.placement import node_file
from federation.placement.node_file import NodeFile
from federation.services.nodes import Announcement
from federation.settings import settings

logger = logging.getLogger(__name__)


def _explicit(option: str) -> bool:
    """Return whether the operator gave this option; a worker started by a program is left as that program wants it."""
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source(option) in {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}


def node_of(queues: Any) -> NodeFile:
    """Return the node whose queue is among these.

    Raises SettingsError if there is none or more than one, NotFound with the nearest names.
    """
    wanted = queues.split(",") if isinstance(queues, str) else list(queues or [])
    known = node_file.names()
    of_nodes = [name for name in wanted if name in known]
    if not wanted:
        raise SettingsError(f"name the node whose queue this worker consumes: celery -A federation worker -Q {known[0]} (nodes: {', '.join(known)})")
    if len(of_nodes) > 1:
        raise SettingsError(f"a worker is one node; start one for each of {', '.join(of_nodes)}")
    return node_file.node_file(of_nodes[0] if of_nodes else wanted[0])


def name_worker(sender: str, instance: Any, options: dict[str, Any], **_: Any) -> None:
    """Give the worker the host name of its node, before anything is named after it."""
    try:
        instance.federation_node = node_of(options.get("queues"))
    except FederationError as error:
        raise SystemExit(f"Error: {error}") from error
    act_as(f"node:{instance.federation_node.name}")
    if instance.hostname == default_nodename(""):
        instance.hostname = f"{instance.federation_node.name}@{socket.gethostname()}"


def shape_worker(sender: Any, **_: Any) -> None:
    """Give the worker the pool and the concurrency of its node's file."""
    declared: NodeFile = sender.federation_node
    if not _explicit("pool"):
        sender.pool_cls = declared.pool
    if not _explicit("concurrency"):
        sender.concurrency = declared.concurrency


def settle_memory(**_: Any) -> None:
    """Leave what is loaded by now to itself: children share it, and neither they nor the end of the worker walk through it."""
    gc.collect()
    gc.freeze()


def set_up_logs(loglevel: Any = None, logfile: str | None = None, **_: Any) -> None:
    """Log in our form; an explicit `-l` wins over the setting."""
    level = loglevel if _explicit("loglevel") and loglevel is not None else settings().log_level
    logs.configure(level, as_json=settings().log_json, file=logfile)


class NodeStep(bootsteps.StartStopStep):
    """Announces the node when its consumer is ready, and lets it leave when the worker stops."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._life: NodeLife | None = None
        self._worker = parent

    def start(self, parent: Any) -> None:
        signals.worker_ready.connect(self._ready)
        signals.worker_shutting_down.connect(self._shutting_down)

    def stop(self, parent: Any) -> None:
        if self._life is not None:
            self._life.leave()
            self._life.join()

    terminate = stop

    def _ready(self, **_: Any) -> None:
        declared: NodeFile = self._worker.federation_node
        take_short_turns()
        made = runtime()
        announcement = _announcement(declared, concurrency=self._worker.concurrency, hostname=self._worker.hostname)
        # What this node may be asked for; messages are judged by it.
        self._worker.federation_view = announcement.view()
        register = self._worker.app.amqp.signer.register
        self._life = NodeLife(announcement, made.transactions, publisher=made.publisher, register=register, stale_s=settings().node_stale_s)
        self._worker.timer.call_repeatedly(settings().node_beat_s, self._life.tick)
        self._life.start()

    def _shutting_down(self, **_: Any) -> None:
        # Called in a signal handler: only sets a flag.
        if self._life is not None:
            self._life.leave()


def _announcement(declared: NodeFile, *, concurrency: int, hostname: str) -> Announcement:
    nothing = declared.simulated
    found = machine.look(() if nothing else (*declared.engines, *declared.models), () if nothing else declared.servers)
    has = machine.compare(declared, found)
    if has.missing:
        logger.warning("node.lacks what=%s", ", ".join(has.missing), extra={"node": declared.name})
    return Announcement(
        name=declared.name,
        role=declared.role,
        tags=has.tags,
        engines=has.engines,
        models=has.models,
        gpus=has.gpus,
        missing=has.missing,
        concurrency=concurrency,
        hostname=hostname,
        pid=os.getpid(),
        incarnation=uuid.uuid4(),
        simulated=declared.simulated,
    )


def install(app: Any) -> None:
    """Connect all this to Celery's signals; called once, by `federation.celery`."""
    # Celery says at each lost connection that it leaves running tasks alone; they do go on, and their effects happen once.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")
    signals.celeryd_init.connect(name_worker)
    signals.worker_init.connect(shape_worker)
    signals.worker_init.connect(settle_memory)
    signals.setup_logging.connect(set_up_logs)
    app.steps["worker"].add(NodeStep)
    app.steps["consumer"].add(Questions)
