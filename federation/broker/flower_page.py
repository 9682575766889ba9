"""Shows our queues on Flower's broker page; imports nothing of Flower, and does nothing where Flower is not loaded."""

import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from federation.broker.destinations import queue_name

_VIEWS = "flower.views"


class App(Protocol):
    """What is used of a Celery app."""

    def connection_for_read(self) -> Any:
        """Return a kombu connection, not connected yet."""


class QueueSizes:
    """Answers Flower as its own classes for RabbitMQ and Redis do, by a connection of the app: lists of brokers and TLS are as it has them."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def queues(self, names: Iterable[str]) -> list[Mapping[str, Any]]:
        """Return name and number of messages of each of these queues that the broker has, and with a `queue_prefix` of all that begin with it.

        Flower names those that its workers consumed when it looked at them last, which misses a worker that was just starting.

        Raises BrokerError if it cannot be asked; Flower writes that into its log.
        """
        return await asyncio.to_thread(self._ask, list(names))

    def _ask(self, names: list[str]) -> list[Mapping[str, Any]]:
        with self._app.connection_for_read() as connection:
            # Each broker of the list once, because somebody waits for the page.
            connection.ensure_connection(max_retries=max(1, len(connection.alt)), interval_start=0, interval_step=0, reraise_as_library_errors=False)
            channel = connection.default_channel
            statistics = connection.transport.statistics()
            rows: list[Mapping[str, Any]] = []
            if prefix := channel.options.queue_prefix:
                begun = [destination for destination in statistics.sizes() if destination.startswith(f"/queue/{prefix}")]
                names = sorted({*names, *(queue_name(destination, prefix) for destination in begun)})
            for name in names:
                sizes = [size for source in channel.sources(name) if not source.is_topic and (size := statistics.size(source.destination))]
                if sizes:
                    waiting, in_flight = sum(size.waiting for size in sizes), sum(size.in_flight for size in sizes)
                    counts = {"messages": waiting + in_flight, "messages_ready": waiting, "messages_unacknowledged": in_flight}
                    rows.append({"name": name, **counts})
            return rows


def show_queues_in_flower(driver_type: str) -> None:
    """Let Flower ask us for the sizes of queues when the app's transport has this driver.

    Flower has a closed list of brokers. Like any Celery program it makes a transport when it starts, so that is our moment.
    """
    handler = getattr(sys.modules.get(_VIEWS), "BaseHandler", None)
    known = getattr(handler, "get_broker", None)
    if handler is None or known is None or getattr(known, "asks_activemq", False):
        return

    def get_broker(self: Any) -> Any:
        return QueueSizes(self.capp) if self.application.transport == driver_type else known(self)

    get_broker.asks_activemq = True  # type: ignore[attr-defined]  # marks it, so that it is put there once
    handler.get_broker = get_broker
