"""Takes what waits in a queue elsewhere: each message moves or goes in one transaction of the broker, and what is left alone stays."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from federation.broker import destinations
from federation.broker.envelope import is_redelivered, pack_moved
from federation.broker.frames import Frame, encode
from federation.broker.message import Message
from federation.broker.opening import own_transport
from federation.broker.peeking import peek
from federation.broker.transport import Transport

SECONDS_TO_COMMIT = 30.0


class WaitingMessage:
    """A message in a queue that no consumer has; while it is looked at, nobody gets it.

    `message` is as its consumer would have it, `headers` are those of kombu, `redelivered` says whether somebody may have had it before.
    """

    def __init__(self, transport: Transport, frame: Frame, queue: str) -> None:
        self._transport, self._frame, self._queue = transport, frame, queue
        self.message = Message.from_frame(frame, queue=queue, channel=None, delivery_tag=0, consumer_tag=None)
        self.headers: dict[str, Any] = self.message.headers
        self.size = len(frame.body)
        self.redelivered = is_redelivered(frame)

    def move(self, queue: str) -> None:
        """Send it to another kombu queue, as it is; returns when the broker has done it. Raises ConnectionLost or RequestRefused."""
        destination = destinations.queue(queue, self._transport.options.queue_prefix)
        _settle(self._transport, [self._frame], pack_moved(self._frame, destination, queue))

    def drop(self, *others: "WaitingMessage") -> None:
        """Take it, and others that were looked at with it, from the queue for good, all or none. Raises ConnectionLost or RequestRefused."""
        _settle(self._transport, [each._frame for each in (self, *others)])


def _settle(transport: Transport, taken: Sequence[Frame], sent: dict[str, str] | None = None) -> None:
    wire = transport.wire
    transaction, receipt = {"transaction": wire.next_id()}, wire.next_id()
    frames = [encode("BEGIN", transaction)]
    if sent is not None:
        frames += [encode("SEND", {**sent, **transaction}, frame.body) for frame in taken]
    frames += [encode("ACK", {"id": frame.headers["ack"], **transaction}) for frame in taken]
    frames.append(encode("COMMIT", {**transaction, "receipt": receipt}))
    wire.request(b"".join(frames), receipt, SECONDS_TO_COMMIT)


@contextmanager
def waiting_messages(connection: Any, queue: str, *, limit: int) -> Iterator[Iterator[WaitingMessage]]:
    """Yield the first `limit` messages of a kombu queue; those that are neither moved nor dropped stay in it, marked as redelivered.

    The connection is one of its own. Raises StatisticsMissing, ConnectionLost or RequestRefused.
    """
    with own_transport(connection) as transport:
        size = transport.statistics().size(queue_destination := destinations.queue(queue, transport.options.queue_prefix))
        waiting = min(limit, size.waiting) if size is not None else 0
        yield (WaitingMessage(transport, frame, queue) for frame in peek(transport.wire, queue_destination, waiting))
