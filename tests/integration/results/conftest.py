"""A database with the tables of results, used as a role that may neither create nor alter anything."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from federation.local.children import Process
from federation.results.backend import PostgresBackend
from federation.results.tables import create_all, metadata
from tests import forks

ROLE = "federation_service"


@dataclass(frozen=True)
class Database:
    """`owner_url` is for the test's own look; `url` is what the backend gets."""

    owner_url: str
    url: str

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []


@contextmanager
def prepared(postgres: Any) -> Iterator[Database]:
    with postgres.database() as owner_url:
        create_all(owner_url)
        database = Database(owner_url, postgres.as_role(ROLE, owner_url))
        database.execute(f"grant select, insert, update, delete on {', '.join(metadata.tables)} to {ROLE}")
        yield database


@pytest.fixture
def database(postgres: Any) -> Iterator[Database]:
    with prepared(postgres) as database:
        yield database


@pytest.fixture
def make_backend(database: Database) -> Iterator[Callable[..., PostgresBackend]]:
    """Make backends, each as a process of its own would have it; settings of Celery by keyword."""
    made: list[PostgresBackend] = []

    def make(query: str = "recheck=60", **settings: Any) -> PostgresBackend:
        app = Celery(set_as_current=False)
        app.conf.update(settings)
        backend = PostgresBackend(app, url=f"pgnotify+{database.url}?{query}")
        app._backend = backend  # what app.AsyncResult then uses
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_backend: Callable[..., PostgresBackend]) -> PostgresBackend:
    return make_backend()


@pytest.fixture(scope="module")
def canvas(postgres: Any, activemq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application of these tests with a worker of two processes behind it; yields the module results_app."""
    log = tmp_path_factory.mktemp("worker") / "log"
    with prepared(postgres) as database:
        environment = {"TEST_BROKER_URL": activemq.url, "TEST_RESULTS_URL": f"pgnotify+{database.url}"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.syspath_prepend(str(Path(__file__).parent))
            patch.delitem(sys.modules, "results_app", raising=False)
            import results_app

            results_app.database, results_app.log = database, log
            with worker(log):
                # The first answer shows that the worker consumes.
                assert results_app.add.delay(1, 1).get(timeout=60) == 2, log.read_text()
                yield results_app
            results_app.app.backend.close()
            results_app.app.close()


@contextmanager
def worker(log: Path, *flags: str, **environment: str) -> Iterator[Process]:
    with log.open("wb") as output:
        words = ("-A", "results_app", "worker", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip", *flags)
        process = forks.celery(*words, cwd=Path(__file__).parent, env=os.environ | environment, stdout=output)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
