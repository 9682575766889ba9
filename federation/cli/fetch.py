"""`federation fetch`: brings ActiveMQ's jars and stunnel into the cache, and starts ActiveMQ once so that each later start is quicker."""

from pathlib import Path

from federation.cli.console import console, errors, inert
from federation.errors import LocalServiceError
from federation.local import activemq, jars, stunnel
from federation.settings import settings


def announce(name: str, size: str, cache_dir: Path) -> None:
    """Say what is about to be fetched."""
    console.print(f"Fetching {name} from Debian's packages into {inert(cache_dir)} ({size}, once).")


def fetch() -> None:
    """Fetch ActiveMQ's jars and stunnel into the cache, from Debian's packages; `federation up` and the tests need no network then.

    Without stunnel, which only `federation up --tls` needs, it succeeds too.
    """
    config = settings()
    if jars.find(config.activemq_home, config.cache_dir) is None:
        announce("ActiveMQ", jars.SIZE, config.cache_dir)
    found = jars.find_or_fetch(config.activemq_home, config.cache_dir)
    if not found.archive.exists():
        try:
            activemq.archive_classes(found)
        except LocalServiceError as error:
            console.print(f"ActiveMQ will take longer to start than it could: {inert(error)}")
    console.print(f"ActiveMQ: {inert(found.origin)}")
    if stunnel.find(config.cache_dir) is None:
        announce("stunnel", stunnel.SIZE, config.cache_dir)
    try:
        console.print(f"stunnel: {inert(stunnel.find_or_fetch(config.cache_dir).origin)}")
    except LocalServiceError as error:
        errors.print(f"{inert(error)}\nOnly `federation up --tls` needs it.")
