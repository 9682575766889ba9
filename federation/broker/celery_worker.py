"""What Celery's worker needs of a transport that it does not know; imports nothing of Celery, and does nothing where no worker is loaded."""

import sys
import time
from typing import Any

_CONSUMER = "celery.worker.consumer.consumer"
_SOLO = "celery.concurrency.solo"
_STEPS = (("celery.worker.consumer.mingle", "Mingle"), ("celery.worker.consumer.gossip", "Gossip"))
SECONDS_AFTER_A_REFUSAL = 2.0


def is_worker() -> bool:
    """Whether a worker is loaded in this process."""
    return _CONSUMER in sys.modules


def join_compatible_transports(driver_type: str) -> None:
    """Add a driver to the lists of transports that Celery lets mingle and gossip.

    The lists are closed sets in Celery's code. It looks into them after it has made a transport, so that is our moment.
    """
    for module, step in _STEPS:
        loaded = getattr(sys.modules.get(module), step, None)
        if loaded is not None:
            loaded.compatible_transports.add(driver_type)


def pause_in_a_worker() -> None:
    """Wait a moment before a worker hears that the broker does not want it.

    A worker tries for ever, and after an error that kombu does not repeat by itself Celery does so without a pause.
    Anybody else is to hear of it at once.
    """
    if is_worker():
        time.sleep(SECONDS_AFTER_A_REFUSAL)


def pool_of(callback: Any) -> Any:
    """Return the pool that runs what a consumer's callback is given, None if that is not Celery's worker of this process."""
    loaded: Any = sys.modules.get(_CONSUMER)
    # Celery's worker has kombu's consumer hand over, which knows it by this.
    worker = getattr(getattr(getattr(callback, "__self__", None), "on_decode_error", None), "__self__", None)
    return worker.pool if loaded is not None and isinstance(worker, loaded.Consumer) else None


def runs_in_the_loop(pool: Any) -> bool:
    """Whether a pool runs tasks where messages are received and heart-beats are sent."""
    return type(pool).__module__ == _SOLO


def kills_what_runs(pool: Any) -> bool:
    """Whether a pool, told to end at once, kills its tasks and takes them for done: one of greenlets."""
    return bool(getattr(pool, "is_green", False))
