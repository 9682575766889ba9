"""Measures one broker over kombu, in a process of its own: a JSON object in, one line of JSON out; starts no server."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import kombu

import federation.broker  # noqa: F401  # registers activemq://
from benchmarks.broker.cells import BATCH, CELLS, CONNECTIONS, PREFETCH, RAW, Cell
from benchmarks.broker.raw import consume_raw
from benchmarks.processes import pss_mib, tree, usages

_WITHIN_S = 60


class Bench:
    """One broker, with durable and confirmed messages or with neither."""

    def __init__(self, url: str, *, durable: bool) -> None:
        self._url, self._durable = url, durable

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Yield a channel of a connection of its own."""
        with kombu.Connection(self._url, transport_options={"confirm_publish": self._durable}) as connection, connection.channel() as channel:
            yield channel

    @contextmanager
    def queues(self, count: int) -> Iterator[list[kombu.Queue]]:
        """Yield declared queues, and delete them in the end."""
        with self.connected() as channel:
            made = [kombu.Queue(f"bench.{uuid.uuid4().hex}", durable=True)(channel) for _ in range(count)]
            for queue in made:
                queue.declare()
            yield made
            for queue in made:
                queue.delete()

    def measure(self, cell: Cell) -> float:
        """Return messages a second."""
        with self.queues(cell.queues) as queues:
            names = [queue.name for queue in queues]
            if cell.verb in ("publish", "batch"):
                return self._publish(cell, names, in_batch=cell.verb == "batch")
            self._publish(cell, names, in_batch=True)
            return consume_raw(self._url, names[0], cell.count) if cell.verb == "raw" else self._consume(cell, queues)

    def _publish(self, cell: Cell, names: list[str], *, in_batch: bool) -> float:
        body = "x" * cell.size
        mode = 2 if self._durable else 1
        with self.connected() as channel:
            producer = kombu.Producer(channel, serializer="json")

            def send() -> None:
                for name in islice(cycle(names), cell.count):
                    producer.publish(body, routing_key=name, delivery_mode=mode)

            return self.rate(cell.count, lambda: _in_batches(producer, send) if in_batch else send())

    def _consume(self, cell: Cell, queues: list[kombu.Queue]) -> float:
        left = cell.count

        def ack(message: Any) -> None:
            nonlocal left
            message.ack()
            left -= 1

        with self.connected() as channel:
            channel.basic_qos(0, PREFETCH, False)
            consumer = kombu.Consumer(channel, queues, on_message=ack, accept=["json"])

            def drain() -> None:
                consumer.consume()
                while left:
                    channel.connection.client.drain_events(timeout=_WITHIN_S)

            rate = self.rate(cell.count, drain)
            consumer.cancel()
            return rate

    def rate(self, count: int, run: Callable[[], None]) -> float:
        """Run what handles so many messages, and return messages a second."""
        began = time.perf_counter()
        run()
        return count / (time.perf_counter() - began)

    def memory_of_a_connection(self, broker_pid: int) -> dict[str, float]:
        """Return what a connection with a channel costs in this process and in the broker's, in KiB."""
        broker = tree(broker_pid, usages())
        opened: list[kombu.Connection] = []
        before = pss_mib([os.getpid()]), pss_mib(broker)
        for _ in range(CONNECTIONS):
            connection = kombu.Connection(self._url)
            connection.channel()
            opened.append(connection)
        after = pss_mib([os.getpid()]), pss_mib(broker)
        for connection in opened:
            connection.release()
        client, server = ((now - then) * 1024 / CONNECTIONS for then, now in zip(before, after, strict=True))
        return {"client_kib": client, "broker_kib": server}


def _in_batches(producer: Any, send: Callable[[], None]) -> None:
    with producer.batch(max_size=BATCH):
        send()


def main() -> None:
    """Measure all cells that make sense for this broker, and print."""
    given = json.load(sys.stdin)
    bench = Bench(given["url"], durable=given["durable"])
    cells = (*CELLS, RAW) if given["url"].startswith("activemq") else CELLS
    told = {cell.name: bench.measure(cell) for cell in cells}
    print(json.dumps(told | bench.memory_of_a_connection(given["broker_pid"])))


if __name__ == "__main__":
    main()
