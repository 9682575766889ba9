"""Publishers that keep book: what was confirmed, and what had to be published again because no confirmation came."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kombu
from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://

RETRIES = {"max_retries": 600, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.2}
TEXT = {"content_type": "text/plain", "content_encoding": "utf-8"}


class Sender(threading.Thread):
    """Sends bodies to one queue, one confirmed publish after the other, over a connection of its own."""

    def __init__(self, url: str, queue: str, bodies: Sequence[str], *, at: Mapping[int, Callable[[], object]] | None = None, **options: Any) -> None:
        """`at`: what is done when so many are confirmed, before the next is sent."""
        super().__init__(daemon=True)
        self._at = at or {}
        self._url, self._queue, self._bodies, self._options = url, queue, bodies, options
        self.confirmed: list[str] = []
        # How often the publishing of each was tried again: so often may the broker have one more than once.
        self.tried_again: Counter[str] = Counter()
        # Of those that were published again: the seconds from the first try to the confirmation.
        self.held_up_s: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Send all."""
        try:
            with kombu.Connection(self._url, transport_options=self._options, connect_timeout=2) as connection:
                producer = kombu.Producer(connection)
                for body in self._bodies:
                    policy = {**RETRIES, "errback": lambda *_, body=body: self.tried_again.update([body])}
                    began = time.monotonic()
                    producer.publish(body, routing_key=self._queue, message_id=body, retry=True, retry_policy=policy, **TEXT)
                    self.confirmed.append(body)
                    if body in self.tried_again:
                        self.held_up_s.append(time.monotonic() - began)
                    if (happens := self._at.get(len(self.confirmed))) is not None:
                        happens()
        except BaseException as error:
            self.failure = error
            raise

    @property
    def published_again(self) -> set[str]:
        """What was published more than once."""
        return set(self.tried_again)


class Client:
    """Sends tasks of the project by their names."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.app = Celery("client", broker=url, set_as_current=False)
        self.app.conf.update(task_default_queue="work", task_ignore_result=True, broker_transport_options=options, broker_connection_timeout=2)
        self.sent: list[str] = []
        self.published_again: set[str] = set()

    def send(self, task: str, *arguments: Any) -> str:
        """Send a task until it is confirmed and return its id, which is the same for each try."""
        task_id = kombu.utils.uuid()
        policy = {**RETRIES, "errback": lambda *_: self.published_again.add(task_id)}
        self.app.send_task(task, arguments, task_id=task_id, retry=True, retry_policy=policy)
        self.sent.append(task_id)
        return task_id

    def waiting(self) -> int:
        """Return how many tasks wait in the queue, those that workers hold included."""
        with self.app.connection_for_read() as connection:
            found = connection.default_channel.queue_declare(self.app.conf.task_default_queue, passive=True)
            return int(found.message_count)

    def close(self) -> None:
        """Close its connections."""
        self.app.close()
