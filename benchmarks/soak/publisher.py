"""Publishes all messages of the plan over long-lived connections, each confirmed; then stays until it is ended."""

import signal
import time

import kombu

from benchmarks.soak.load import CONSUMED, PUBLISHED, QUEUE, RAN, count, counted, read_plan
from benchmarks.soak.project import app, swallow

# So that memory tells of leaks and not of a backlog.
_MOST_WAITING = 500
_LOOK_EVERY = 50


def main() -> None:
    """Publish."""
    plan = read_plan()
    with kombu.Connection(plan.url) as connection:
        producer = kombu.Producer(connection)
        queue = kombu.Queue(QUEUE, routing_key=QUEUE)
        for number in range(plan.messages):
            body = f"{number:010d}".ljust(plan.body_bytes, "x")
            if plan.is_task(number):
                swallow.delay(body)
            else:
                producer.publish(body, routing_key=QUEUE, declare=[queue], serializer="json")
            count(PUBLISHED)
            while number % _LOOK_EVERY == 0 and number - counted(CONSUMED) - counted(RAN) > _MOST_WAITING:
                time.sleep(0.005)
        signal.pause()
    app.close()


if __name__ == "__main__":
    main()
