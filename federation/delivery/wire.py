"""A plain STOMP connection to ActiveMQ for what is no task: made when it is needed, and anew when it was lost; what is sent is one transaction."""

from collections.abc import Sequence
from contextlib import ExitStack

from celery import Celery

from federation.broker.connection import StompConnection
from federation.broker.errors import RequestRefused
from federation.broker.frames import encode
from federation.broker.opening import own_transport

CONFIRM_S, REASON_S = 30.0, 5.0


class Wire:
    """The connection of one thread."""

    def __init__(self, app: Celery, *, heartbeat_s: float = 0) -> None:
        """Without heart-beats nobody need send any between two batches, each of which waits for its receipt."""
        self._app, self._heartbeat_s = app, heartbeat_s
        self._open = ExitStack()
        self._wire: StompConnection | None = None
        self.most_bytes = 0

    def connected(self) -> StompConnection:
        """Return the connection, which was not known to be lost a moment ago. Raises the errors of the broker."""
        if self._wire is None or not self._wire.alive:
            self.close()
            connection = self._open.enter_context(self._app.connection_for_write(heartbeat=self._heartbeat_s))
            transport = self._open.enter_context(own_transport(connection))
            self._wire, self.most_bytes = transport.wire, transport.options.max_frame_size
        else:
            self._wire.look_for_end()
        return self._wire

    def send(self, transaction: str, frames: Sequence[bytes]) -> None:
        """Have ActiveMQ take all of these, which name the transaction, or none. Raises the errors of the broker."""
        wire = self.connected()
        receipt = wire.next_id()
        whole = [encode("BEGIN", {"transaction": transaction}), *frames, encode("COMMIT", {"transaction": transaction, "receipt": receipt})]
        try:
            wire.request(b"".join(whole), receipt, CONFIRM_S)
        except RequestRefused:
            # A COMMIT is refused for a SEND before it, and only the ERROR of that one, which may come after, says why.
            if wire.read(REASON_S, lambda: not wire.alive):
                wire.look_for_end()
            raise

    def close(self) -> None:
        """Part from ActiveMQ."""
        self._wire = None
        self._open.close()
