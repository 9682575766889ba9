"""The transport options of kombu that this transport knows, read once for each connection; other options are left to kombu."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from federation.broker.frames import MAX_FRAME_BYTES
from federation.broker.redelivery import Hook

SECONDS_TO_CONNECT = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `broker_transport_options` may set.

    queue_prefix, topic_prefix: put before each name, after `/queue/` and `/topic/`.
    confirm_publish: wait for ActiveMQ's receipt for each persistent message; False trades safety for speed.
    confirm_timeout: seconds to wait for a receipt.
    heartbeat: seconds between heart-beats both ways; None takes kombu's `heartbeat=`; 0 turns them off.
    max_frame_size: largest body in bytes, to be kept equal to the connector's `wireFormat.maxFrameSize`.
    unlimited_prefetch: messages on their way to a consumer that has set no prefetch count.
    schedule_eta: leave messages with an ETA to the broker's scheduler until they are due; False leaves them to the memory of a worker.
    dead_letter_queue: where rejected and quarantined messages go, `{queue}` being the broker's name of theirs; empty: as the broker's policy says.
    on_redelivered: a function, or `module:function`, that is asked about each redelivered message before it is handed over; see Quarantine.
    event_exchanges: topic exchanges that live in the broker as topics, because their bindings must reach across processes.
    """

    queue_prefix: str = ""
    topic_prefix: str = ""
    confirm_publish: bool = True
    confirm_timeout: float = 30.0
    heartbeat: float | None = None
    max_frame_size: int = MAX_FRAME_BYTES
    unlimited_prefetch: int = 1000
    schedule_eta: bool = True
    dead_letter_queue: str = "DLQ.{queue}"
    on_redelivered: Hook | str | None = None
    event_exchanges: tuple[str, ...] = ("celeryev",)


def read_options(given: Mapping[str, Any]) -> Options:
    """Pick our options out of kombu's; what others read from the same mapping is not ours to refuse."""
    known = {field.name for field in fields(Options)}
    return Options(**{name: value for name, value in given.items() if name in known})
