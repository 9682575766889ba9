"""Opens a connection of one's own beside the one that is given, for what must not disturb its consumers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federation.broker.transport import Transport


@contextmanager
def own_transport(connection: Any) -> Iterator[Transport]:
    """Yield the connected transport of a copy of a kombu connection, and close it after.

    Raises TypeError if it is not one to ActiveMQ, ConnectionLost, AccessRefused or NotStomp.
    """
    with connection.clone() as copy:
        if not isinstance(copy.transport, Transport):
            raise TypeError(f"{connection.as_uri()} is no activemq:// connection")
        copy.connect()
        yield copy.transport
