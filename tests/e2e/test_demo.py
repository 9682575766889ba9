"""The main job, end to end: twice, interrupted, and gone without a trace. The tests of this module run in their order."""

import base64
import re
import signal
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import psycopg
import pytest

pytestmark = [pytest.mark.timeout(400), pytest.mark.story]

AUDIT = """
SELECT sender, recipient, content, created_at
FROM messages
WHERE conversation_id = 'project-123'
ORDER BY created_at;
"""


def test_the_first_demo_indexes_a_code_base_and_does_the_main_job(federation) -> None:
    done = federation.run("federation", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Index a real code base" in done.stdout
    assert re.search(r"(8|9|10) of 10 have the right file", done.stdout)
    assert "federation_pulse shows aorus stale" in done.stdout
    assert "mcpServers" in done.stdout or "claude mcp add" in done.stdout


def test_flower_shows_three_workers_by_name_and_finished_executions(federation) -> None:
    url = urlsplit(federation.status()["flower_url"])
    address = f"http://{url.hostname}:{url.port}"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}/workers")
    login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()

    def page(path: str) -> str:
        request = urllib.request.Request(address + path, headers={"Authorization": f"Basic {login}"})
        return urllib.request.urlopen(request).read().decode()

    assert set(re.findall(r"\b(taichi|aorus|baby)@", page("/workers"))) == {"taichi", "aorus", "baby"}
    tasks = page("/api/tasks?state=SUCCESS&limit=500")
    assert "federation.tasks.retrieval.search" in tasks
    assert "federation.tasks.inference.complete" in tasks


def test_stock_celery_commands_find_the_nodes(federation) -> None:
    for command in (("inspect", "ping"), ("status",)):
        done = federation.run("celery", "-A", "federation", *command)
        assert "3 nodes online" in done.stdout, done.stdout + done.stderr


def test_the_whitepapers_audit_query_runs_verbatim_as_the_auditor(federation) -> None:
    with psycopg.connect(federation.status()["database_auditor_url"]) as connection:
        rows = connection.execute(AUDIT.encode()).fetchall()
        assert {sender for sender, *_ in rows} == {"ada", "bob", "eve"}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from messages")


def test_the_second_demo_searches_what_is_there_and_indexes_one_changed_file(federation) -> None:
    done = federation.run("federation", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 files, 1 changed" in done.stdout
    assert "one document was read anew" in done.stdout


@pytest.mark.parametrize("step", [1, 4, 9])
def test_ctrl_c_leaves_no_process(federation, step: int) -> None:
    if step == 1:
        assert federation.run("federation", "down").returncode == 0
    demo = federation.start("federation", "demo")
    for line in demo.stdout:
        if line.startswith(f"{step:>2}  "):
            break
    else:
        pytest.fail(f"step {step} did not begin")
    pids = {process.pid for process in federation.processes()}
    assert demo.pid in pids
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=120)
    assert demo.returncode == 130
    assert federation.processes() == []


def test_purge_removes_all_that_was_made(federation) -> None:
    assert federation.data_dir.exists()
    done = federation.run("federation", "down", "--purge", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not federation.data_dir.exists()
