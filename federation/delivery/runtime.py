"""What a process needs to open transactions and send executions, made once each process and anew after a fork."""

import os
import sys
from dataclasses import dataclass
from functools import cache

from federation.delivery.app import application, database_url, service_url
from federation.delivery.publisher import CeleryPublisher
from federation.delivery.voices import PartVoice
from federation.settings import settings
from federation.transaction import Transactions, connect

# A thread that has its answer from PostgreSQL gets the interpreter after so long at the latest from another that computes. Python's own five
# milliseconds, at each of its statements, are most of what many calls at once would take.
SWITCH_S = 0.0005


def take_short_turns() -> None:
    """Let the threads of this process, which mostly wait for PostgreSQL, not wait for each other."""
    sys.setswitchinterval(SWITCH_S)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The transactions and the publisher of one process."""

    transactions: Transactions
    publisher: CeleryPublisher


def build(service: str, *, agents: str | None = None) -> Runtime:
    """Return transactions on this database, as two of its roles, whose executions are sent by this process's application.

    Without the URL for `agents` it acts for none.
    """
    engine = connect(service)
    publisher = CeleryPublisher(application(), engine, stale_s=settings().node_stale_s)
    agents_engine = connect(agents) if agents else engine
    return Runtime(Transactions(agents_engine, publisher, service=engine, voice=PartVoice(application())), publisher)


@cache
def _of_process(pid: int) -> Runtime:
    # A child must not speak over its parent's connections; those stay in the cache, so that nobody closes them.
    return build(service_url(settings()), agents=database_url(settings()))


def runtime() -> Runtime:
    """Return what this process uses. Raises SettingsError if the broker or one of the two roles of the database is not set."""
    return _of_process(os.getpid())


def transactions() -> Transactions:
    """Return the transactions of this process."""
    return runtime().transactions
