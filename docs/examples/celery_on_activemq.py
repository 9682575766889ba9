"""A Celery project on ActiveMQ: start a worker, `celery -A celery_on_activemq worker`, then run this file."""

import os

from celery import Celery, group

import federation.broker  # noqa: F401  # registers activemq:// and activemqs://

app = Celery("celery_on_activemq", broker=os.environ["BROKER_URL"], backend="rpc://")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)


@app.task
def greet(name: str) -> str:
    return f"Hello, {name}!"


if __name__ == "__main__":
    for greeting in group(greet.s(name) for name in ("Ada", "Bob", "Zoë")).delay().get(timeout=30):
        print(greeting)  # noqa: T201
