"""`federation fetch`: brings ActiveMQ's jars into the cache; starts nothing."""

from federation.cli.console import console, inert
from federation.local import jars
from federation.settings import settings


def fetch() -> None:
    """Fetch ActiveMQ's jars into the cache, from Debian's packages; `federation up` and the tests need no network then."""
    config = settings()
    if jars.find(config.activemq_home, config.cache_dir) is None:
        console.print(f"Fetching ActiveMQ from Debian's packages into {inert(config.cache_dir)} ({jars.SIZE}, once).")
    console.print(f"ActiveMQ: {inert(jars.find_or_fetch(config.activemq_home, config.cache_dir).origin)}")
