"""Measures one result backend without a worker, in a process of its own: a JSON object in, one line of JSON out; starts no server."""

import json
import multiprocessing
import os
import sys
import time
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any

import kombu
import psycopg
from celery import Celery, states

import federation.broker  # noqa: F401  # registers activemq://
from federation.results.backend import PostgresBackend

WRITERS = 8
# What differs by little is measured for seconds, and not for the tenths in which eight processes get going.
LONGER = 8
_ALONE = 50
_READY_WITHIN_S = 60.0


class _Silent(PostgresBackend):
    """The same without its announcements, to tell what these cost."""

    def _announce(self, connection: Any, task_id: str) -> None:
        pass


def stored_per_s(url: str, *, writers: int, results: int, silent: bool = False) -> float:
    """Return how many results so many processes store in a second, all at once."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(writers + 1)
    processes = [context.Process(target=_write, args=(url, results // writers, silent, start)) for _ in range(writers)]
    for process in processes:
        process.start()
    start.wait(_READY_WITHIN_S)
    began = time.perf_counter()
    for process in processes:
        process.join()
    took_s = time.perf_counter() - began
    if any(process.exitcode for process in processes):
        raise RuntimeError("a writer failed; see above")
    return results // writers * writers / took_s


def _write(url: str, results: int, silent: bool, start: Any) -> None:
    backend = _backend(url, silent)
    _store(backend)  # connects
    start.wait(_READY_WITHIN_S)
    for _ in range(results):
        _store(backend)
    sys.stdout.flush()
    os._exit(0)  # what a backend does at its end is not measured


def _backend(url: str, silent: bool) -> Any:
    app = Celery(backend=url, set_as_current=False)
    app.loader.override_backends = {"pgnotify": "federation.results.backend:PostgresBackend"}
    return _Silent(app, url=url) if silent else app.backend


def _store(backend: Any) -> None:
    backend.store_result(str(uuid.uuid4()), None, states.SUCCESS)


def commit_ms(url: str) -> float:
    """Return what one durable commit of a row costs in PostgreSQL, alone."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table if not exists benchmark_commits (id uuid primary key)")
        return _median_ms(lambda: connection.execute("insert into benchmark_commits values (gen_random_uuid())"))


def send_ms(url: str) -> float:
    """Return what one persistent message with its receipt costs, alone."""
    with kombu.Connection(url) as connection, connection.channel() as channel:
        queue = kombu.Queue(f"bench.{uuid.uuid4().hex}", durable=True)(channel)
        queue.declare()
        producer = kombu.Producer(channel, serializer="json")
        taken = _median_ms(lambda: producer.publish("x" * 200, routing_key=queue.name, delivery_mode=2))
        queue.delete()
        return taken


def _median_ms(once: Callable[[], Any]) -> float:
    taken = []
    for _ in range(_ALONE):
        began = time.perf_counter()
        once()
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def main() -> None:
    """Measure what makes sense for this backend, and print."""
    given = json.load(sys.stdin)
    url, results = given["result_backend"], given["results"]
    told = {"stored_1_per_s": stored_per_s(url, writers=1, results=results), "stored_8_per_s": stored_per_s(url, writers=WRITERS, results=results)}
    if url.startswith("pgnotify"):
        told |= {
            "announced_8_per_s": stored_per_s(url, writers=WRITERS, results=LONGER * results),
            "silent_8_per_s": stored_per_s(url, writers=WRITERS, results=LONGER * results, silent=True),
            "commit_ms": commit_ms(url.removeprefix("pgnotify+")),
            "send_ms": send_ms(given["broker_url"]),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
