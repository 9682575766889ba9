"""Consumes and acknowledges every message of the plan that is no task, on one long-lived connection; says what was lost or came twice."""

import json
import signal
from typing import Any

import kombu

import federation.broker  # noqa: F401  # registers activemq://
from benchmarks.soak.load import CONSUMED, QUEUE, VERDICT, count, read_plan

_PREFETCH = 50


def main() -> None:
    """Consume until each has come, then stay until it is ended."""
    plan = read_plan()
    # A byte a message from the start: what grows is not ours.
    times = bytearray(plan.messages)
    left = plan.messages - plan.tasks

    def receive(message: Any) -> None:
        nonlocal left
        number = int(message.decode()[:10])
        times[number] = min(times[number] + 1, 255)
        left -= times[number] == 1
        message.ack()
        count(CONSUMED)

    with kombu.Connection(plan.url) as connection:
        queue = kombu.Queue(QUEUE, routing_key=QUEUE)
        with kombu.Consumer(connection, [queue], on_message=receive, prefetch_count=_PREFETCH):
            while left:
                connection.drain_events(timeout=60)
        VERDICT.write_text(json.dumps({"doubled": sum(count > 1 for count in times)}))
        signal.pause()


if __name__ == "__main__":
    main()
