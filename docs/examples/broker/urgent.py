"""What is urgent goes first, and what comes too late does not run."""

from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("urgent", broker="activemq://user:password@localhost:61613/", backend="rpc://")
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = True


@app.task
def answer(question: str) -> str:
    return question


def example() -> None:
    answer.apply_async(("fire?",), priority=9)
    answer.apply_async(("weather?",))  # priority 0, the last
    answer.apply_async(("lunch?",), priority=4, expires=600)
