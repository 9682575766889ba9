"""The floor's worker: takes each claim from its queue, decides it, stores its result, wakes who waits, and only then acknowledges it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from benchmarks.coordination.floor import BROKER, CHANNEL, DATABASE, QUEUE
from benchmarks.coordination.stomp_line import StompLine

# As many as the federation's node has.
THREADS = 4
_DECIDE = "INSERT INTO held (resource, holder) SELECT resource, agent FROM claims WHERE id = %s ON CONFLICT DO NOTHING RETURNING token"
# By who runs executions, whatever they do: a commit of its own.
_STORE = "INSERT INTO results VALUES (%s, %s) ON CONFLICT DO NOTHING"
_here = threading.local()


def decide(frame: Any, line: StompLine) -> None:
    """Decide one claim."""
    if not hasattr(_here, "connection"):
        _here.connection = psycopg.connect(os.environ[DATABASE], autocommit=True)
    won = _here.connection.execute(_DECIDE, [frame.body]).fetchone()
    _here.connection.execute(_STORE, [frame.body, won and won[0]])
    # Its own statement: within the commit it would hold a lock of the whole database.
    _here.connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, frame.body])
    line.client.ack(frame.headers["ack"])


def main() -> None:
    """Decide until a signal ends it."""
    with ThreadPoolExecutor(THREADS) as pool:
        line = StompLine(os.environ[BROKER], lambda frame: pool.submit(decide, frame, line))
        line.subscribe(QUEUE, ack="client-individual", **{"activemq.prefetchSize": str(2 * THREADS)})
        threading.Event().wait()


if __name__ == "__main__":
    main()
