"""stomp.py as a witness: reads what the transport published without a line of the transport's code."""

import contextlib
import os
import queue
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.faults.diary import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Seen:
    """One message: `identity` is the broker's own name for it, other for each publish."""

    body: str
    identity: str
    redelivered: bool


def read_all(server: Any, destination: str, expected: Iterable[str]) -> list[Seen]:
    """Take everything out of a queue, and wait for the expected bodies; what is missing in the end is for the caller to name."""
    # stomp.py looks up each host name of the machine when it is imported, unless it is told not to.
    os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
    import stomp

    arrived: queue.SimpleQueue[Seen] = queue.SimpleQueue()

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]
        def on_message(self, frame: Any) -> None:
            arrived.put(Seen(frame.body, frame.headers["message-id"], frame.headers.get("redelivered") == "true"))

    client = stomp.Connection12([(server.host, server.port)])
    client.set_listener("", Listener())
    client.connect(server.user, server.password, wait=True)
    # Whoever reads this one has read all before it.
    last = f"last {uuid.uuid4()}"
    client.send(destination, last, persistent="true", priority="0")
    client.subscribe(destination, id="1", ack="auto", headers={"activemq.prefetchSize": "1000"})
    seen: list[Seen] = []
    missing, ended = set(expected), False
    try:
        # What does not come is for the caller to name.
        with contextlib.suppress(queue.Empty):
            while missing or not ended:
                message = arrived.get(timeout=5.0 if ended else PATIENCE_S)
                if message.body == last:
                    ended = True
                else:
                    seen.append(message)
                    missing.discard(message.body)
    finally:
        client.disconnect()
    return seen
