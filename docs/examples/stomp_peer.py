"""An agent that speaks STOMP instead of MCP, with stomp.py: python stomp_peer.py HOST PORT NAME

It prints what comes to its queue, and answers each message that is for it alone. The agent's token is in the variable FEDERATION_TOKEN; an operator
lets it speak with `federation agent stomp NAME`. With TLS the variable FEDERATION_CA is the path of the authority, ca.pem. pip install stomp.py
"""

# ruff: noqa: T201 - it shows what it gets
import json
import os
import queue
import sys
from collections.abc import Iterator
from typing import Any

# Else stomp.py looks up each host name of the machine when it is imported.
os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
import stomp


class Peer(stomp.ConnectionListener):
    """An agent's line to the federation: what arrives, and what it says."""

    def __init__(self, host: str, port: int, name: str, token: str, authority: str | None = None) -> None:
        self.name = name
        self.arrived: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._receipts = 0
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.client = stomp.Connection12([(host, port)], heartbeats=(30_000, 30_000))
        if authority:
            self.client.set_ssl([(host, port)], ca_certs=authority)
        self.client.set_listener("", self)
        self.client.connect(name, token, wait=True)
        self._ask(lambda headers: self.client.subscribe(f"/queue/federation.{name}", id="mine", ack="client-individual", headers=headers))
        self._ask(lambda headers: self.client.subscribe("/topic/federation.broadcast", id="all", ack="auto", headers=headers))

    def _ask(self, request: Any) -> None:
        """Make a request and wait until ActiveMQ has done it: without a receipt a message may be lost with the connection."""
        self._receipts += 1
        request({"receipt": str(self._receipts)})
        if refused := self._told.get(timeout=60):
            raise PermissionError(refused)

    def say(self, content: str | None = None, **message: Any) -> None:
        """Send a message; persistent, so that it survives a restart of the broker."""
        body = json.dumps({"content": content, **message})
        headers = {"persistent": "true", "content-type": "application/json"}
        self._ask(lambda more: self.client.send(f"/queue/federation.from.{self.name}", body, headers={**headers, **more}))

    def on_message(self, frame: Any) -> None:
        message = json.loads(frame.body)
        self.arrived.put({**message, "by": frame.headers["destination"]})
        if frame.headers["subscription"] == "mine":
            self.client.ack(frame.headers["ack"])

    def on_receipt(self, frame: Any) -> None:
        self._told.put("")

    def on_error(self, frame: Any) -> None:
        self._told.put(frame.headers.get("message", "refused"))

    def on_disconnected(self) -> None:
        self.arrived.put(None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.arrived.get, None)


def main() -> None:
    host, port, name = sys.argv[1:]
    peer = Peer(host, int(port), name, os.environ["FEDERATION_TOKEN"], os.environ.get("FEDERATION_CA"))
    print("connected", file=sys.stderr, flush=True)
    for message in peer:
        print(json.dumps(message), flush=True)
        if message["type"] in {"chat", "request"} and message.get("to") == name:
            peer.say("I got it.", reply_to=message["id"])
        if "cursor" in message:
            peer.say(type="read", cursor=message["cursor"])
    sys.exit("The connection ended; start again.")


if __name__ == "__main__":
    main()
