"""What a process needs to open transactions and send executions, made once each process and anew after a fork."""

import os
from dataclasses import dataclass
from functools import cache

from federation.delivery.app import application, database_url
from federation.delivery.publisher import CeleryPublisher
from federation.delivery.voices import PartVoice
from federation.settings import settings
from federation.transaction import Transactions, connect


@dataclass(frozen=True, slots=True)
class Runtime:
    """The transactions and the publisher of one process."""

    transactions: Transactions
    publisher: CeleryPublisher


def build(url: str) -> Runtime:
    """Return transactions on this database whose executions are sent by this process's application."""
    engine = connect(url)
    publisher = CeleryPublisher(application(), engine, stale_s=settings().node_stale_s)
    return Runtime(Transactions(engine, publisher, voice=PartVoice(application())), publisher)


@cache
def _of_process(pid: int) -> Runtime:
    # A child must not speak over its parent's connections; those stay in the cache, so that nobody closes them.
    return build(database_url(settings()))


def runtime() -> Runtime:
    """Return what this process uses. Raises SettingsError if broker or database is not set."""
    return _of_process(os.getpid())


def transactions() -> Transactions:
    """Return the transactions of this process."""
    return runtime().transactions
