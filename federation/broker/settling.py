"""The frames that settle a delivery, together with the UNSUBSCRIBE when its subscription ends with it; sends nothing.

An ACK invites the next message, and the UNSUBSCRIBE behind it returns that one marked as redelivered, though nobody had it. So the two are one
transaction: the ACK invites nothing before its COMMIT, in a broker with usePrefetchExtension="false", and then nobody is there any more.
"""

from collections.abc import Callable, Mapping

from federation.broker.envelope import pack_again
from federation.broker.frames import Frame, encode, escape
from federation.broker.subscription import Say


def acknowledge(frame: Frame, next_id: Callable[[], str]) -> Say:
    """The delivery is done."""
    identity = frame.headers["ack"]

    def say(ending: bytes) -> bytes:
        if not ending:
            # As short as can be: this is what a busy worker says most.
            return f"ACK\nid:{escape(identity)}\n\n\0".encode()
        transaction = {"transaction": next_id()}
        return encode("BEGIN", transaction) + commit(frame, transaction)(ending)

    return say


def send_again(frame: Frame, destination: str, next_id: Callable[[], str]) -> Say:
    """The delivery goes back to its queue, marked as redelivered: SEND and ACK in one, so that it is never there twice or not at all."""
    transaction = {"transaction": next_id()}
    sent = encode("SEND", {**pack_again(frame, destination), **transaction}, frame.body)
    return lambda ending: encode("BEGIN", transaction) + sent + commit(frame, transaction)(ending)


def commit(frame: Frame, transaction: Mapping[str, str]) -> Say:
    """The delivery is done, as the last part of an open transaction."""
    ack = encode("ACK", {"id": frame.headers["ack"], **transaction})
    return lambda ending: ack + ending + encode("COMMIT", transaction)


def refuse(frame: Frame) -> Say:
    """The broker decides by its own policy what becomes of it."""
    return lambda ending: encode("NACK", {"id": frame.headers["ack"]}) + ending
