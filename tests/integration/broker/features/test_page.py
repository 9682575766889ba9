"""What docs/reference/broker.md shows in its own text: each block of Python is run as it stands, and each line of the console."""

import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker.commands import DONE, NOT_FOUND, main
from federation.broker.dead_letters import list_dead_letters
from federation.broker.scheduled import list_scheduled

DOCS = Path(__file__).parents[4] / "docs"
PAGE = (DOCS / "reference" / "broker.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
RUN = "$ python -m federation.broker "
CONSOLE = "".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [line.removeprefix(RUN).split() for line in CONSOLE.splitlines() if line.startswith(RUN)]


def block(word: str) -> str:
    """Return the one block that has this word."""
    [found] = [text for text in BLOCKS if word in text]
    return found


@pytest.fixture
def app(activemq: Any) -> Iterator[Any]:
    """An app whose queues `work` and `invoices` are this test's own."""
    app = Celery("page", broker=activemq.url, set_as_current=False)
    app.conf.update(task_default_queue="work", broker_transport_options={"queue_prefix": f"page.{uuid.uuid4().hex[:8]}."})
    yield app
    app.close()


@pytest.fixture
def bury(app: Any) -> None:
    """Let a task of `work` die."""
    app.send_task("shop.sum", task_id="dead", ignore_result=True)
    with app.connection_for_write() as connection:
        take(connection, "work").reject()


def take(connection: kombu.Connection, name: str) -> Any:
    """Consume until a message comes."""
    taken: list[Any] = []
    with kombu.Consumer(connection, [kombu.Queue(name, routing_key=name)], on_message=taken.append, prefetch_count=1):
        while not taken:
            connection.drain_events(timeout=60)
    return taken[0]


def test_the_first_block_makes_an_app_of_this_transport() -> None:
    made: dict[str, Any] = {}
    exec(block("Celery(broker="), made)
    assert made["app"].connection_for_read().transport.driver_type == "stomp"
    made["app"].close()


def test_what_is_scheduled_is_listed_and_removed(app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app.send_task("shop.remind", task_id="later", countdown=86_400, ignore_result=True)
    exec(block("list_scheduled"), {"app": app})
    assert " shop.remind later work\n" in capsys.readouterr().out
    with app.connection_for_write() as connection:
        assert "later" not in {one.task_id for one in list_scheduled(connection)}


def test_a_dead_letter_is_listed_and_sent_back(app: Any, bury: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("list_dead_letters"), {"app": app})
    assert " shop.sum dead rejected by its consumer\n" in capsys.readouterr().out
    with app.connection_for_write() as connection:
        assert list(list_dead_letters(connection, "work")) == []
        message = take(connection, "work")
        assert (message.headers["id"], message.delivery_info["redelivered"]) == ("dead", True)
        message.ack()


def test_what_waits_for_an_invoice_moves_and_the_rest_stays(app: Any) -> None:
    for task in ("shop.sum", "shop.invoice"):
        app.send_task(task, task_id=task, ignore_result=True)
    exec(block("waiting_messages"), {"app": app})
    with app.connection_for_write() as connection:
        for name, task in (("invoices", "shop.invoice"), ("work", "shop.sum")):
            message = take(connection, name)
            assert message.headers["id"] == task
            message.ack()


def test_a_task_goes_where_its_exchange_and_key_lead_with_the_queues_declared(app: Any) -> None:
    app.conf.task_queues = [kombu.Queue("cuts", kombu.Exchange("media", type="topic"), routing_key="video.#")]
    exec(block("declare="), {"app": app})
    with app.connection_for_write() as connection:
        message = take(connection, "cuts")
        assert message.headers["task"] == "cut"
        message.ack()


def test_each_block_of_the_page_is_run_here() -> None:
    assert len(BLOCKS) == 5


def test_each_example_of_the_page_is_run_by_a_test() -> None:
    shown = set(re.findall(r"\{literalinclude\} \.\./examples/broker/(\w+)\.py", PAGE))
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert shown == {path.stem for path in (DOCS / "examples" / "broker").glob("*.py")}
    # As a project with workers, and what the examples send as their last lines: test_examples.py.
    assert shown <= set(re.findall(r"= project\(\"(\w+)\"\)", tests))


def test_each_command_of_the_page_is_taken(
    app: Any, bury: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"from celery import Celery\n\napp = Celery('project', broker={app.conf.broker_url!r}, set_as_current=False)\n"
    (tmp_path / "project.py").write_text(f"{text}app.conf.broker_transport_options = {app.conf.broker_transport_options!r}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "project", raising=False)
    told = []
    for command in COMMANDS:
        try:
            code = main(command)
        except SystemExit as end:
            code = int(end.code or 0)
        output = capsys.readouterr()
        # There is no letter and no job of the page's ids.
        assert code == (NOT_FOUND if any(word.startswith("ID:") for word in command) else DONE), f"{command}: {output.err}"
        told.append(output.out)
    assert len(told) == 9
    assert "usage: python -m federation.broker" in told[0]
    assert "shop.sum" in told[3]
    assert told[4].split()[-1] == "0", told[4]
    assert told[5].split()[-1] == "1", told[5]
