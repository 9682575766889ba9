"""kombu 5.7's publish batches as one broker transaction each; a batch that failed is of no further use."""

from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError  # type: ignore[attr-defined]  # newer than the stubs

from federation.broker.errors import BrokerError
from federation.broker.frames import encode

if TYPE_CHECKING:
    # The channel makes batches: at run time this would be a circle.
    from federation.broker.channel import Channel


class PublishBatch:
    """SENDs gathered until `max_size` or `flush`, then BEGIN, all of them, COMMIT: all are stored or none."""

    def __init__(self, channel: "Channel", max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._gathered: list[tuple[dict[str, str], bytes]] = []
        self._unusable: str | None = None

    def publish(self, message: dict[str, Any], **options: Any) -> Any:
        """Route one prepared message; it is sent with the others."""
        self._check()
        return self.channel.basic_publish(message, batch=self, **options)

    def add(self, headers: dict[str, str], body: bytes) -> None:
        """Gather one SEND of the message that is being routed."""
        self._gathered.append((headers, body))
        if len(self._gathered) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered as one transaction.

        Raises BatchPublishError if it is not certain that the broker has it.
        """
        self._check()
        if not self._gathered:
            return
        wire = self.channel.wire
        transaction = wire.next_id()
        frames = [encode("BEGIN", {"transaction": transaction})]
        frames += [encode("SEND", {**headers, "transaction": transaction}, body) for headers, body in self._gathered]
        # Always with a receipt: one for the whole batch costs little, and says that the commit was done.
        receipt = wire.next_id()
        frames.append(encode("COMMIT", {"transaction": transaction, "receipt": receipt}))
        self._gathered.clear()
        try:
            wire.request(b"".join(frames), receipt, self.channel.options.confirm_timeout)
        except BrokerError as error:
            self._unusable = "it failed before"
            raise BatchPublishError("the batch may be stored as a whole or not at all: send it again with the same ids") from error

    def discard(self) -> None:
        """Forget what was not sent yet."""
        self._gathered.clear()
        self._unusable = "it was aborted"

    def close(self) -> None:
        """End the batch."""
        self._gathered.clear()
        self._unusable = self._unusable or "it is closed"

    def _check(self) -> None:
        if self._unusable is not None:
            raise BatchPublishError(f"this batch takes no more messages: {self._unusable}; start another")
