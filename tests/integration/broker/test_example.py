"""The example and the page for a Celery user of any project, as they stand."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from federation.local.activemq import connects

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "celery_on_activemq.py"
CONFIGURATION = ROOT / "docs" / "examples" / "broker" / "activemq.xml"
FOLLOWER = ROOT / "docs" / "examples" / "follow_events.py"
PAGE = ROOT / "docs" / "how-to" / "celery-on-activemq.md"


@pytest.fixture
def as_on_the_page(activemq: Any, server_dir: Path) -> Iterator[Any]:
    """An ActiveMQ with the configuration that the page shows, but for the port."""
    root, password = server_dir / "activemq-page", secrets.token_urlsafe(16)
    server = type(activemq)(root)
    properties = [f"-Dactivemq.{name}={root / name}" for name in ("conf", "data")]

    def configure() -> None:
        for name in ("tmp", "conf", "data"):
            (root / name).mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.read_text()
        assert text.count(":61613?") == 1
        (root / "activemq.xml").write_text(text.replace(":61613?", f":{server.port}?"))
        (root / "conf" / "credentials.properties").write_text(f"celery.password={password}\n")

    def answers() -> bool:
        try:
            return connects(server.host, server.port, "celery", password)
        except OSError:
            return False

    java, *arguments = server._part.command
    server._part = replace(server._part, command=[java, *properties, *arguments], prepare=configure, is_ready=answers)
    server.url = f"activemq://celery:{password}@{server.host}:{server.port}/"
    server.start()
    yield server
    server.stop()


def test_the_example_runs_on_the_broker_of_the_page(as_on_the_page: Any, tmp_path: Path, bus: Any) -> None:
    environment = {**os.environ, "BROKER_URL": as_on_the_page.url, "PYTHONPATH": str(ROOT)}
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "celery", "-A", EXAMPLE.stem, "worker", "-P", "threads", "-n", "example@here", "-l", "INFO"]
        worker = subprocess.Popen(command, cwd=EXAMPLE.parent, env=environment, stdout=output, stderr=output)
    try:
        bus.wait_for(lambda: "example@here ready" in log.read_text() or worker.poll() is not None, "the worker is ready")
        done = subprocess.run(
            [sys.executable, EXAMPLE.name], cwd=EXAMPLE.parent, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
    finally:
        worker.kill()
        worker.wait()
    assert done.stdout.splitlines() == ["Hello, Ada!", "Hello, Bob!", "Hello, Zoë!"], done.stderr + log.read_text()


def test_the_broker_starts_as_the_page_says(as_on_the_page: Any, tmp_path: Path, bus: Any) -> None:
    as_on_the_page.stop()
    command = as_on_the_page._part.command
    text = "".join(re.findall(r"^```console\n(.*?)^```", PAGE.read_text().partition("## A broker for it")[2], re.DOTALL | re.MULTILINE)[:1])
    *making, starting = [line.removeprefix("$ ") for line in text.splitlines()]
    assert len(making) == 4
    script = "\n".join(["set -e", *making, f"sed -i 's/:61613?/:{as_on_the_page.port}?/' activemq.xml", f"exec {starting}"])
    environment = {
        **os.environ,
        "JARS": command[command.index("-cp") + 1],
        "PATH": os.pathsep.join((str(Path(command[0]).parent), os.environ["PATH"])),
    }
    log = tmp_path / "broker.log"
    with log.open("wb") as output:
        broker = subprocess.Popen(["bash", "-c", script.replace("FOLDER", str(tmp_path))], cwd=ROOT, env=environment, stdout=output, stderr=output)

    def answers() -> bool:
        assert broker.poll() is None, log.read_text()
        try:
            return connects(as_on_the_page.host, as_on_the_page.port, "celery", "secret")
        except OSError:
            return False

    try:
        bus.wait_for(answers, "the broker answers")
    finally:
        broker.kill()
        broker.wait()


def test_the_example_that_follows_events_prints_a_line_for_each(activemq: Any, plain: Any) -> None:
    """What the federation publishes is in the tests of its relay, which follow with the same code."""
    event = {"number": 7, "at": "2026-11-28T12:00:00.000000Z", "actor": "ada", "type": "test.followed", "stream": "test:ä", "position": 1}
    command = [sys.executable, str(FOLLOWER), activemq.host, str(activemq.port), activemq.user, "test.followed"]
    environment = os.environ | {"STOMP_PASSCODE": activemq.password, "PYTHONUTF8": "1"}
    follower = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        assert follower.stderr is not None
        assert follower.stdout is not None
        told = follower.stderr.readline()
        assert told == "following\n", told + follower.stderr.read()
        for kind in ("another", "followed"):
            plain.send(f"/topic/federation.events.test.{kind}", json.dumps(event | {"type": f"test.{kind}"}).encode())
        assert follower.stdout.readline() == "7 2026-11-28T12:00:00.000000Z ada test.followed test:ä#1\n"
    finally:
        follower.kill()
        follower.communicate(timeout=60)


def test_the_example_uses_nothing_of_ours_but_the_transport() -> None:
    assert re.findall(r"federation[.\w]*", EXAMPLE.read_text()) == ["federation.broker"]


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
def test_the_settings_of_the_page_are_taken(block: str) -> None:
    app = Celery("page")
    exec(block, {"app": app})
    connection = app.connection_for_read()
    assert connection.transport.driver_type == "stomp"
    app.close()


def test_each_error_of_the_page_exists() -> None:
    from federation.broker import errors

    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(named) == 8
    assert all(issubclass(getattr(errors, name), errors.BrokerError) for name in named)
