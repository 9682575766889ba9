"""What Celery's worker needs of a transport that it does not know; imports nothing of Celery, and does nothing where no worker is loaded."""

import sys
import time

_STEPS = (("celery.worker.consumer.mingle", "Mingle"), ("celery.worker.consumer.gossip", "Gossip"))
SECONDS_AFTER_A_REFUSAL = 2.0


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
    if "celery.worker.consumer.consumer" in sys.modules:
        time.sleep(SECONDS_AFTER_A_REFUSAL)
