"""The Celery application that workers of these tests run; its addresses come from the environment of the test."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("results_app", broker=os.environ["TEST_BROKER_URL"], set_as_current=False)
# Also without the installed entry point, so that these tests hold for a bare checkout.
app.loader.override_backends = {"pgnotify": "federation.results.backend:PostgresBackend"}
app.conf.update(
    result_backend=os.environ["TEST_RESULTS_URL"],
    result_extended=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue="results",
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: Any) -> Any:
    return sum(total(number) if isinstance(number, list) else number for number in numbers)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task
def fail(message: str) -> None:
    raise ValueError(message)


@app.task
def lament(request: Any, error: BaseException, traceback: Any, path: str) -> None:
    """Write down what failed, as an errback is told of it."""
    with Path(path).open("a") as file:
        file.write(f"{request.id} {type(error).__name__}\n")


@app.task(ignore_result=True)
def unheard(number: int) -> int:
    return number


@app.task(bind=True)
def progress(self: Any, path: str) -> str:
    """Say how far it is, and end when the test writes the file."""
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    wait_for(path)
    return "done"


@app.task
def when(path: str, value: Any = None) -> Any:
    """Say that it runs, in a file beside this one, and end when the test writes this one."""
    Path(f"{path}.{value}").touch()
    wait_for(path)
    return value


@app.task(bind=True)
def die_once(self: Any, path: str, number: int) -> int:
    """Kill the process that runs it, the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@app.task(bind=True)
def spawn(self: Any) -> int:
    add.delay(1, 1)
    return 1


@app.task(bind=True)
def grow(self: Any, number: int) -> int:
    """Add a part to the chord that it is a part of."""
    self.add_to_chord(add.s(number, number))
    return number


def wait_for(path: str) -> None:
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)


__all__ = ["app", "chain", "chord", "group"]
