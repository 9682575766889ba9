"""Follows what happens in the federation, with stomp.py: python follow_events.py HOST PORT USER [TYPE]

The password is in the variable STOMP_PASSCODE. TYPE is one type of event, such as task.completed; without it all come.
pip install stomp.py
"""

# ruff: noqa: T201 - it shows what it gets
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Else stomp.py looks up each host name of the machine when it is imported.
os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
import stomp


class Follower(stomp.ConnectionListener):
    """The events of one type as they come; what comes while it is away is in the log: `federation events --after` the last number."""

    def __init__(self, host: str, port: int, user: str, passcode: str, kind: str = ">") -> None:
        self.arrived: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        # A broker that is gone without a word is noticed by its heart-beats.
        self.client = stomp.Connection12([(host, port)], heartbeats=(30_000, 30_000))
        self.client.set_listener("", self)
        self.client.connect(user, passcode, wait=True)
        self.client.subscribe(f"/topic/federation.events.{kind}", id="1", ack="auto", headers={"receipt": "subscribed"})
        # A topic tells nothing to who comes later.
        if not self._subscribed.wait(60):
            raise ConnectionError("ActiveMQ does not confirm the subscription; may this user read the topics of events?")

    def on_message(self, frame: Any) -> None:
        self.arrived.put(json.loads(frame.body))

    def on_receipt(self, frame: Any) -> None:
        self._subscribed.set()

    def on_error(self, frame: Any) -> None:
        print(frame.headers.get("message", frame.body), file=sys.stderr)

    def on_disconnected(self) -> None:
        self.arrived.put(None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.arrived.get, None)


def main() -> None:
    host, port, user, *kind = sys.argv[1:]
    follower = Follower(host, int(port), user, os.environ["STOMP_PASSCODE"], *kind)
    print("following", file=sys.stderr, flush=True)
    for event in follower:
        print(event["number"], event["at"], event["actor"], event["type"], f"{event['stream']}#{event['position']}", flush=True)
    sys.exit("The connection ended; start again.")


if __name__ == "__main__":
    main()
