"""Plain STOMP clients of the broker, one connection each."""

import os
import queue
import time
from typing import Any

WITHIN_S = 60


class Client:
    """A plain STOMP client that is told after each request whether the broker took it, and how not."""

    def __init__(self, server: Any, user: str, *, name: str | None = None) -> None:
        os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
        import stomp

        told: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Where it was sent to, and through which subscription it came.
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told, arrived, heard = told, self.arrived, self.heard

        class Listener(stomp.ConnectionListener):  # type: ignore[misc]
            def on_message(self, frame: Any) -> None:
                heard.put(frame.headers["subscription"])
                arrived.put(frame.headers["destination"])

            def on_receipt(self, frame: Any) -> None:
                told.put("")

            def on_error(self, frame: Any) -> None:
                told.put(frame.headers.get("message", "refused"))

        self.connection = stomp.Connection12([(server.host, server.port)], reconnect_attempts_max=1)
        self.connection.set_listener("", Listener())
        self.connection.connect(user, server.passwords[user], wait=True, headers={"client-id": name} if name else {})

    def end(self) -> None:
        """Part, if that is not done."""
        if self.connection.is_connected():
            self.connection.disconnect()

    def write(self, destination: str, **headers: str) -> str:
        """Return why the broker does not take a message to there, nothing where it does."""
        self.connection.send(destination, "words", headers={"receipt": "1", "expires": str(int(time.time() * 1000) + 60_000), **headers})
        return self.told()

    def told(self) -> str:
        """Return the broker's next answer, as `write` has it."""
        return self._told.get(timeout=WITHIN_S)

    def read(self, destination: str, **headers: str) -> str:
        """Return the same of a subscription."""
        self.connection.subscribe(destination, id=destination, ack="client-individual", headers={"receipt": "1", **headers})
        return self.told()


class Clients:
    """Opens connections of users."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._opened: list[Client] = []

    def __call__(self, user: str, *, name: str | None = None) -> Client:
        self._opened.append(Client(self.server, user, name=name))
        return self._opened[-1]

    def end(self) -> None:
        for client in self._opened:
            client.end()
