"""What was put aside, as an operator meets it at the command line: listed, looked at, sent again, with the exit codes of a script."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from federation.services import executions, quarantine
from federation.store import outbox


@pytest.fixture
def put_aside(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str, transactions: Any) -> tuple[str, str]:
    """An execution that was put aside, and a message of somebody else's; the shell reaches their database. Return their ids."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    with transactions.begin("ada") as session:
        poison = outbox.record(session, "some.task", {"text": "hello"})
    with transactions.begin("node:aorus") as session:
        executions.record_delivery(session, poison, task_id=str(poison), task_name="some.task", worker="aorus@host", pid=1, redelivered=True)
        at = {"queue": "aorus", "worker": "aorus@host"}
        quarantine.put_aside(session, "killed its worker", headers={"task": "some.task"}, body=b"[[], {}]", execution_id=poison, **at)
        foreign = quarantine.put_aside(session, "no message of Celery", headers={"x": "y"}, body=b"hello", **at)
        session.execute(text("INSERT INTO celery_results (task_id, state, date_done) VALUES (:id, 'FAILURE', now())"), {"id": str(poison)})
    return str(poison), str(foreign)


def test_what_is_quarantined_is_listed_shown_and_sent_again(federation: Callable[..., Any], put_aside: tuple[str, str]) -> None:
    poison, foreign = put_aside
    listed = federation("task", "list", "--quarantined")
    assert listed.returncode == 0
    assert all(word in listed.stdout for word in (poison, foreign, "killed its worker", "no message of Celery"))
    assert {entry["execution_id"] for entry in json.loads(federation("task", "list", "--quarantined", "--json").stdout)} == {poison, None}

    shown = json.loads(federation("task", "show", poison, "--json").stdout)
    [entry] = [fields for title, fields in shown.items() if title.startswith("quarantined ")]
    assert (entry["reason"], entry["headers"]["task"], entry["body"]) == ("killed its worker", "some.task", "[[], {}]")
    assert shown[f"execution {poison}"]["deliveries"] == 1
    assert "no message of Celery" in federation("task", "show", foreign).stdout

    refused = federation("task", "redrive", foreign)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{foreign} was not sent by the federation" in refused.stderr
    sent = federation("task", "redrive", "--all", "--json")
    assert (sent.returncode, json.loads(sent.stdout)) == (0, {"redriven": [poison], "left": {}})
    again = federation("task", "redrive", poison)
    assert again.returncode == 1
    assert "was sent again already" in again.stderr
    assert poison not in federation("task", "list", "--quarantined").stdout
