"""A task that kills its worker is put aside when it has come back three times, by a count in SQLite."""

import contextlib
import os
import signal
import sqlite3

from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.redelivery import Redelivered

LIMIT = 3


def count(message: Redelivered) -> str | None:
    with contextlib.closing(sqlite3.connect("redelivered.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS redelivered (id TEXT PRIMARY KEY, times INTEGER NOT NULL)")
        one_more = "INSERT INTO redelivered VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1 RETURNING times"
        (times,) = database.execute(one_more, (message.message_id,)).fetchone()
    return f"{message.task} came back {times} times" if times >= LIMIT else None


app = Celery("quarantine", broker="activemq://user:password@localhost:61613/", backend="rpc://")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.broker_transport_options = {"on_redelivered": count}


@app.task
def poison(whom: str) -> None:
    os.kill({"child": os.getpid(), "worker": os.getppid()}[whom], signal.SIGKILL)


@app.task
def harmless() -> str:
    return "done"
