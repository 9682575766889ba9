"""A kombu channel that says when it is closed; kombu's own has no connection then, and fails on that."""

from typing import Any

from federation.broker.bases import BaseChannel
from federation.broker.errors import ConnectionLost


class ClosableChannel(BaseChannel):  # type: ignore[misc]  # see bases
    """What asks for the connection's state or for its transport hears that there is none, in an error upon which clients connect anew."""

    connection: Any

    @property
    def transport(self) -> Any:
        """The transport; raises ConnectionLost once the channel or its connection is closed."""
        if self.connection is None:
            raise ConnectionLost("this channel was closed, by itself or with its connection; open another one")
        return self.connection

    @property
    def state(self) -> Any:
        """kombu's record of exchanges and bindings. Raises ConnectionLost as `transport` does."""
        return self.transport.state
