"""Flower's broker page: a real Flower, asked over HTTP."""

import base64
import html
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from federation.local.ports import keep_or_choose

HERE = Path(__file__).parent
LOGIN = "someone:secret"


def fetch(port: int, path: str) -> str:
    """Return a page, or nothing while Flower does not listen yet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode()}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError:
        raise
    except OSError:
        return ""


@pytest.fixture
def flower(tmp_path: Path, bus: Any) -> Iterator[Callable[..., int]]:
    """Starts Flower for an app and returns its port as soon as it answers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(app: str, *, url: str, **environment: str) -> int:
        # Promised to this process until it ends: Flower opens it much later.
        port = keep_or_choose(None)
        command = [sys.executable, "-m", "celery", "-A", app, "-b", url, "flower", "--address=127.0.0.1", f"--port={port}", f"--basic_auth={LOGIN}"]
        with (tmp_path / "flower.log").open("wb") as log:
            variables = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), **environment}
            started.append(subprocess.Popen(command, cwd=HERE, env=variables, stdout=log, stderr=log))

        def answers() -> bool:
            assert started[-1].poll() is None, (tmp_path / "flower.log").read_text()
            return bool(fetch(port, "/broker"))

        bus.wait_for(answers, "Flower answers")
        return port

    yield start
    for process in started:
        process.kill()
        process.wait()


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each row of the table of queues, by the name in the first."""
    found = {}
    for row in re.findall(r"<tr id=.*?</tr>", page, re.DOTALL):
        name, *cells = [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        found[name] = cells
    return found


def test_the_broker_page_shows_what_waits_and_what_is_with_a_worker(celery: Any, start: Any, flower: Any, tmp_path: Path, bus: Any) -> None:
    folder = tmp_path / "deliveries"
    folder.mkdir()
    start("threads")
    for _ in range(5):
        celery.tasks_of_sample.write_delivery.delay(str(folder), str(folder / "go"))
    port = flower("sample_app", url=celery.conf.broker_url)
    # Two threads and a prefetch of one each: two are running, three wait. Messages, unacknowledged, ready.
    bus.wait_for(lambda: rows(fetch(port, "/broker")).get("work", [])[:3] == ["5", "2", "3"], "the page shows five")
    told: list[str] = []
    bus.wait_for(lambda: told.append(fetch(port, "/api/queues/length")) or bool(told[-1]), "the lengths are told")
    lengths = {queue["name"]: queue["messages"] for queue in json.loads(told[-1])["active_queues"]}
    assert lengths["work"] == 5
    (folder / "go").touch()
    bus.wait_for(lambda: rows(fetch(port, "/broker")).get("work", [])[:3] == ["0", "0", "0"], "the page shows that all is done")


def test_a_list_of_brokers_is_asked_in_turn(celery: Any, flower: Any, bus: Any) -> None:
    celery.tasks_of_sample.add.delay(1, 1)
    port = flower("sample_app", url=f"activemq://127.0.0.1:1/;{celery.conf.broker_url}")
    bus.wait_for(lambda: rows(fetch(port, "/broker")).get("work", [])[:3] == ["1", "0", "1"], "the page shows one")


def test_the_federation_shows_its_queues(flower: Any, activemq: Any, bus: Any) -> None:
    from federation.delivery.app import QUEUE_PREFIX

    # One that no worker consumes, or none that Flower has looked at.
    node = f"node-{uuid.uuid4().hex[:8]}"
    queue = kombu.Queue(node, routing_key=node)
    connection = bus.connect(queue_prefix=QUEUE_PREFIX)
    bus.publish(connection, queue, "waits")
    port = flower(
        "federation", url=activemq.url, FEDERATION_BROKER_URL=activemq.url, FEDERATION_DATABASE_SERVICE_URL="postgresql://nobody@127.0.0.1:1/none"
    )
    bus.wait_for(lambda: rows(fetch(port, "/broker")).get(node, [])[:3] == ["1", "0", "1"], "the page shows one")
    queue(connection.default_channel).purge()
    assert "flower_" in fetch(port, "/metrics")
    # Flower itself would tell anybody.
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)
