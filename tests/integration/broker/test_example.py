"""The example and the page for a Celery user of any project, as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "celery_on_activemq.py"
PAGE = ROOT / "docs" / "how-to" / "celery-on-activemq.md"


def test_the_example_runs(activemq: Any, tmp_path: Path, bus: Any) -> None:
    environment = {**os.environ, "BROKER_URL": activemq.url, "PYTHONPATH": str(ROOT)}
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
    assert len(named) == 5
    assert all(issubclass(getattr(errors, name), errors.BrokerError) for name in named)
