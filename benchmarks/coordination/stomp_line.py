"""Bare STOMP for the floor and for whoever listens to a topic: sends with receipts, from any thread, and hands on what arrives."""

import os
import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

# Else stomp.py looks up each host name of the machine when it is imported.
os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
import stomp

_WITHIN_S = 60.0


class StompLine(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """One connection to ActiveMQ as the user of the URL; `arrived` is called for each message, in the connection's own thread."""

    def __init__(self, url: str, arrived: Callable[[Any], object] = lambda frame: None) -> None:
        at = urlsplit(url)
        self._arrived = arrived
        self._receipts: dict[str, threading.Event] = {}
        self._client = stomp.Connection12([(at.hostname, at.port)])
        self._client.set_listener("", self)
        self._client.connect(at.username, at.password, wait=True)

    def subscribe(self, destination: str) -> None:
        """Begin to hear a destination; returns when the broker has confirmed it."""
        self._confirmed(lambda receipt: self._client.subscribe(destination, id="1", ack="auto", headers={"receipt": receipt}))

    def send(self, destination: str, body: str) -> None:
        """Send a persistent message; returns when the broker has it for good."""
        self._confirmed(lambda receipt: self._client.send(destination, body, headers={"persistent": "true", "receipt": receipt}))

    def on_message(self, frame: Any) -> None:
        """Hand it on."""
        self._arrived(frame)

    def on_receipt(self, frame: Any) -> None:
        """Let go who waits for it."""
        if waiting := self._receipts.pop(frame.headers["receipt-id"], None):
            waiting.set()

    def close(self) -> None:
        """Part from the broker."""
        self._client.disconnect()

    def _confirmed(self, do: Callable[[str], None]) -> None:
        receipt, done = uuid.uuid4().hex, threading.Event()
        self._receipts[receipt] = done
        do(receipt)
        if not done.wait(_WITHIN_S):
            raise ConnectionError(f"ActiveMQ has not confirmed within {_WITHIN_S:g} s")
