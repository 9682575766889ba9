"""kombu 5.7's publish batches as one broker transaction each; a batch that failed is of no further use."""

from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError  # type: ignore[attr-defined]  # newer than the stubs

from federation.broker.errors import BrokerError
from federation.broker.frames import encode

if TYPE_CHECKING:
    # The channel makes batches: at run time this would be a circle.
    from federation.broker.channel import Channel

# So much is written at once: the broker works while the rest is still being gathered.
PIECE_BYTES = 1 << 14


class PublishBatch:
    """SENDs in a transaction that ends at `max_size` messages or with `flush`: all of them are stored or none.

    A full transaction is confirmed while the next one fills: at most one is under way beside the open one. After `flush` none is.
    """

    def __init__(self, channel: "Channel", max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._transaction: str | None = None
        self._messages = 0
        self._unwritten = bytearray()
        self._unconfirmed: str | None = None
        self._unusable: str | None = None

    def publish(self, message: dict[str, Any], **options: Any) -> Any:
        """Route one prepared message; it is sent with the others.

        Raises BatchPublishError if it is not certain that the broker has those before.
        """
        self._check()
        return self.channel.basic_publish(message, batch=self, **options)

    def add(self, headers: dict[str, str], body: bytes) -> None:
        """Send the message that is being routed, as a part of the open transaction."""
        if self._transaction is None:
            self._transaction = self.channel.wire.next_id()
            self._unwritten += encode("BEGIN", {"transaction": self._transaction})
        headers["transaction"] = self._transaction
        self._unwritten += encode("SEND", headers, body)
        self._messages += 1
        if self._messages >= self._max_size:
            self._commit()
        elif len(self._unwritten) >= PIECE_BYTES:
            self._write()

    def flush(self) -> None:
        """Commit what was gathered, and wait until the broker has all of it on its disk.

        Raises BatchPublishError if that is not certain.
        """
        self._check()
        if self._transaction is not None:
            self._commit()
        self._confirm()

    def discard(self) -> None:
        """Undo what is not committed; raises BatchPublishError if it is not certain that what is committed was stored."""
        self._end("it was aborted")
        self._confirm()

    def close(self) -> None:
        """End the batch; what is not committed is undone."""
        self._end("it is closed")

    def _end(self, reason: str) -> None:
        self._unusable = self._unusable or reason
        # On a lost connection the broker has undone it already.
        if self._transaction is not None and self.channel.wire.alive:
            self._unwritten += encode("ABORT", {"transaction": self._transaction})
            self._write()
        self._transaction = None

    def _commit(self) -> None:
        self._confirm()
        assert self._transaction is not None
        receipt = self.channel.wire.next_id()
        # Always with a receipt: one for the whole batch costs little, and says that the commit was done.
        self._unwritten += encode("COMMIT", {"transaction": self._transaction, "receipt": receipt})
        self._write()
        self._unconfirmed = receipt
        self._transaction, self._messages = None, 0

    def _write(self) -> None:
        data = bytes(self._unwritten)
        self._unwritten.clear()
        try:
            self.channel.wire.send(data)
        except BrokerError as error:
            raise self._failed() from error

    def _confirm(self) -> None:
        receipt, self._unconfirmed = self._unconfirmed, None
        if receipt is not None:
            try:
                self.channel.wire.wait_for_receipt(receipt, self.channel.options.confirm_timeout)
            except BrokerError as error:
                raise self._failed() from error

    def _failed(self) -> BatchPublishError:
        self._unusable = "it failed before"
        return BatchPublishError("the batch may be stored as a whole or not at all: send it again with the same ids")

    def _check(self) -> None:
        if self._unusable is not None:
            raise BatchPublishError(f"this batch takes no more messages: {self._unusable}; start another")
