"""Reads a queue without taking anything from it: every message is delivered, none acknowledged, and all return when the connection ends."""

from collections.abc import Iterator

from federation.broker.connection import StompConnection
from federation.broker.frames import Frame, encode

# BROWSE of ActiveMQ ends after 400 messages. A consumer gets as many as its prefetch says, but ActiveMQ reads ahead by its
# page of 200 and sleeps until something happens to the queue: another consumer, even one that wants nothing, wakes it.
SECONDS_TO_SLEEP = 0.25
MOST_WAKINGS = 8
SECONDS_TO_BROWSE = 30.0


def peek(wire: StompConnection, destination: str, count: int) -> Iterator[Frame]:
    """Yield the first `count` messages of a queue, or those that the broker's memory holds; use a connection of its own.

    Whoever gets one may settle it by an ACK on the same connection. Raises ConnectionLost or RequestRefused.
    """
    if count <= 0:
        return
    identity, receipt = wire.next_id(), wire.next_id()
    frames = wire.collect(identity)
    headers = {"id": identity, "destination": destination, "ack": "client-individual", "activemq.prefetchSize": str(count), "receipt": receipt}
    wire.request(encode("SUBSCRIBE", headers), receipt, 30.0)
    wakings = 0
    while count and wakings < MOST_WAKINGS:
        if wire.read(SECONDS_TO_SLEEP, lambda: bool(frames)):
            wakings = 0
            while frames and count:
                count -= 1
                yield frames.popleft()
        else:
            wakings += 1
            wake(wire, destination)


def wake(wire: StompConnection, destination: str) -> None:
    """Let ActiveMQ look at a queue again, by a consumer that wants nothing and leaves at once."""
    identity, receipt = wire.next_id(), wire.next_id()
    headers = {"id": identity, "destination": destination, "ack": "client-individual", "activemq.prefetchSize": "0"}
    wire.request(encode("SUBSCRIBE", headers) + encode("UNSUBSCRIBE", {"id": identity, "receipt": receipt}), receipt, 30.0)


def browse_first(wire: StompConnection, destination: str) -> Frame | None:
    """Return a queue's first message, None if it has none; unlike `peek` this leaves the message where it stands, and unmarked.

    Use a connection of its own. Raises ConnectionLost or RequestRefused.
    """
    identity, receipt = wire.next_id(), wire.next_id()
    frames = wire.collect(identity)
    headers = {"id": identity, "destination": destination, "ack": "client-individual", "browser": "true", "activemq.prefetchSize": "1"}
    wire.request(encode("SUBSCRIBE", {**headers, "receipt": receipt}), receipt, SECONDS_TO_BROWSE)
    if not wire.read(SECONDS_TO_BROWSE, lambda: bool(frames)) or frames[0].headers.get("browser") == "end":
        return None
    return frames[0]
