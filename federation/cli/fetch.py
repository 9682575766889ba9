"""`federation fetch`: brings ActiveMQ's jars into the cache, and starts it once so that each later start is quicker."""

from federation.cli.console import console, inert
from federation.errors import LocalServiceError
from federation.local import activemq, jars
from federation.settings import settings


def fetch() -> None:
    """Fetch ActiveMQ's jars into the cache, from Debian's packages; `federation up` and the tests need no network then."""
    config = settings()
    if jars.find(config.activemq_home, config.cache_dir) is None:
        console.print(f"Fetching ActiveMQ from Debian's packages into {inert(config.cache_dir)} ({jars.SIZE}, once).")
    found = jars.find_or_fetch(config.activemq_home, config.cache_dir)
    if not found.archive.exists():
        try:
            activemq.archive_classes(found)
        except LocalServiceError as error:
            console.print(f"ActiveMQ will take longer to start than it could: {inert(error)}")
    console.print(f"ActiveMQ: {inert(found.origin)}")
