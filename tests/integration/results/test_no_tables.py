"""A database without the tables of results, another schema, a role that may not use them: who waits is told at once, a worker keeps its work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, states

from federation.local import children
from federation.results.backend import PostgresBackend
from federation.results.errors import NoTables
from federation.results.tables import create_all, metadata
from tests.integration.results.conftest import ROLE, worker
from tests.integration.results.test_getting import calls_without_bound, in_background, listening, until, watched

SOON_S = 90
TABLES = ", ".join(metadata.tables)
WRONG = {
    "no tables": (f"drop table {TABLES}", "", 'relation "celery_.*" does not exist'),
    "no schema": ("select 1", "?schema=jobz", 'relation "jobz.celery_.*" does not exist'),
    "no right": (f"revoke all on {TABLES} from {ROLE}", "", "permission denied for table celery_"),
    "no right to the schema": ("create schema closed", "?schema=closed", "permission denied for schema closed"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_who_waits_or_reads_is_told_at_once(database: Any, wrong: str) -> None:
    statement, query, said = WRONG[wrong]
    database.execute(statement)
    app = Celery(broker="memory://", set_as_current=False)
    app._backend = backend = PostgresBackend(app, url=f"pgnotify+{database.url}{query}")
    for call in calls_without_bound(app, backend):
        with pytest.raises(NoTables, match=rf"(?s){said}.*federation\.results\.tables\.create_all"):
            in_background(call).result(SOON_S)
    backend.close()


def test_who_waits_already_is_told_when_the_tables_are_gone(make_backend: Callable[..., PostgresBackend], database: Any) -> None:
    client = make_backend("recheck=0.1")
    waiting = in_background(client.app.AsyncResult("id").get)
    until(lambda: watched(client)() and listening(database) == 1)
    database.execute(f"drop table {TABLES}")
    with pytest.raises(NoTables, match="create_all"):
        waiting.result(SOON_S)
    create_all(database.owner_url)
    database.execute(f"grant select, insert, update, delete on {TABLES} to {ROLE}")
    again = in_background(client.app.AsyncResult("id").get)
    make_backend().store_result("id", 1, states.SUCCESS)
    assert again.result(SOON_S) == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_without_tables_says_so_and_keeps_its_work_until_there_are(canvas: Any, tmp_path: Path, pool: str) -> None:
    database, queue, log, schema = canvas.database, uuid4().hex, tmp_path / "log", f"of_{pool}"
    url = f"pgnotify+{database.url}?schema={schema}"
    with worker(log, "-Q", queue, "-P", pool, TEST_RESULTS_URL=url):
        result = canvas.add.apply_async((2, 3), queue=queue)
        assert children.wait_until(lambda: "federation.results.tables.create_all" in log.read_text(), SOON_S), log.read_text()
        assert f'relation "{schema}.celery_results" does not exist' in log.read_text()
        database.execute(f"create schema {schema}; grant usage on schema {schema} to {ROLE}")
        create_all(database.owner_url, schema=schema)
        database.execute(f"grant select, insert, update, delete on all tables in schema {schema} to {ROLE}")
        reader = PostgresBackend(Celery(set_as_current=False), url=url)
        assert reader.wait_for(result.id, timeout=SOON_S)["result"] == 5
        reader.close()
    assert "Traceback" not in log.read_text()


def test_a_worker_without_tables_that_is_told_to_end_hands_its_work_back(canvas: Any, tmp_path: Path) -> None:
    queue, log = uuid4().hex, tmp_path / "log"
    with worker(log, "-Q", queue, TEST_RESULTS_URL=f"pgnotify+{canvas.database.url}?schema=nowhere") as process:
        result = canvas.add.apply_async((2, 3), queue=queue)
        assert children.wait_until(lambda: "create_all" in log.read_text(), SOON_S), log.read_text()
        process.terminate()
        assert process.wait(SOON_S) == 0, log.read_text()
    with worker(tmp_path / "next", "-Q", queue):
        assert result.get(timeout=SOON_S) == 5
