"""Lets Celery's workers on this transport mingle and gossip; imports nothing of Celery."""

import sys

_STEPS = (("celery.worker.consumer.mingle", "Mingle"), ("celery.worker.consumer.gossip", "Gossip"))


def join_compatible_transports(driver_type: str) -> None:
    """Add a driver to the lists of transports that Celery lets mingle and gossip.

    The lists are closed sets in Celery's code. It looks into them after it has made a transport, so that is our moment;
    where Celery's worker is not loaded, nothing happens.
    """
    for module, step in _STEPS:
        loaded = getattr(sys.modules.get(module), step, None)
        if loaded is not None:
            loaded.compatible_transports.add(driver_type)
