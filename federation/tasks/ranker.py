"""Has the worker that serves the vectors listen to who asks for a ranking past the queue; ranks nothing itself."""

import logging
import os
from functools import partial
from typing import Any

from celery import signals
from celery.concurrency.thread import TaskPool

from federation.delivery import ranker
from federation.services.retrieval import FRAG
from federation.settings import settings
from federation.tasks import retrieval

logger = logging.getLogger(__name__)

# Questions that wait for a core are better computed together than one after the other.
_THREADS_A_CORE = 4
_LISTENERS: list[ranker.Listener] = []


@signals.worker_ready.connect(weak=False)
def listen(sender: Any, **_: Any) -> None:
    """Listen, if this is the node of the vectors; not in a process that forks others, which must not have loaded a model."""
    node = sender.controller.federation_node
    if FRAG not in node.tags or not isinstance(sender.controller.pool, TaskPool):
        return
    threads = _THREADS_A_CORE * len(os.sched_getaffinity(0))
    listener = ranker.Listener(ranker.socket_of(settings()), partial(retrieval.rank, node=node.name), threads=threads)
    try:
        listener.start()
    except OSError as error:
        # Each search goes through the queue.
        logger.warning("ranker.not_listening reason=%s", error)
    else:
        _LISTENERS.append(listener)


@signals.worker_shutdown.connect(weak=False)
def hang_up(**_: Any) -> None:
    """Listen no more."""
    while _LISTENERS:
        _LISTENERS.pop().stop()
