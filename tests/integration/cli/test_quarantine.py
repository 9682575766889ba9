"""What was put aside, as an operator meets it at the command line: listed, looked at, sent again, with the exit codes of a script."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from federation.local.person import person
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
        told: Any = {"task_name": "some.task", "worker": "aorus@host", "pid": 1, "actor": "node:aorus", "trace_id": "t"}
        executions.record_delivery(session, poison, task_id=str(poison), **told, redelivered=True)
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


def test_what_is_dismissed_waits_no_more_and_is_still_shown_with_who_and_why(federation: Callable[..., Any], put_aside: tuple[str, str]) -> None:
    poison, foreign = put_aside
    done = federation("task", "dismiss", foreign, "--reason", "a client of ours\nthat was tried")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Dismissed {foreign}.\n", "")
    # Anybody can set these, so they say nothing about who it is.
    posing = {"LOGNAME": "eve\nroot", "USER": "eve", "LNAME": "eve", "USERNAME": "eve", "SUDO_USER": "eve"}
    done = federation("task", "dismiss", poison, "--reason", "known", "--json", **posing)
    [entry] = json.loads(done.stdout)["dismissed"]
    assert (done.returncode, entry not in put_aside) == (0, True)
    assert federation("task", "list", "--quarantined").stdout == "Nothing is quarantined.\n"

    me = person()
    for reference, reason in ((foreign, "a client of ours\nthat was tried"), (poison, "known")):
        shown = json.loads(federation("task", "show", reference, "--json").stdout)
        [fields] = [fields for title, fields in shown.items() if title.startswith("quarantined ")]
        assert (fields["dismissed_by"], fields["dismissed_for"]) == (me, reason)
    told = [(event["type"], event["actor"], event["payload"]) for event in shown["events"]]
    assert told[-1] == ("execution.dismissed", me, {"version": 1, "quarantine_id": entry, "reason": "known"})

    again = federation("task", "dismiss", foreign, "--reason", "once more")
    assert (again.returncode, again.stdout) == (1, "")
    assert f"{foreign} was dismissed already by {me}: a client of ours" in again.stderr
    assert json.loads(federation("task", "redrive", "--all", "--json").stdout) == {"redriven": [], "left": {}}, "it is not sent with the others"
    assert json.loads(federation("task", "redrive", poison, "--json").stdout) == {"redriven": [poison], "left": {}}, "by its id it is"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("no-id", "--reason", "x"), 2, "ID: got 'no-id', wants the id of an execution"),
        (("{poison}", "--reason", " "), 2, "reason: got ' ', wants why"),
        (("{poison}",), 2, "--reason"),
        ((str(uuid.UUID(int=1)), "--reason", "x"), 1, "no quarantined execution"),
    ],
)
def test_what_cannot_be_dismissed_is_refused(
    federation: Callable[..., Any], put_aside: tuple[str, str], words: tuple[str, ...], status: int, says: str
) -> None:
    done = federation("task", "dismiss", *(word.format(poison=put_aside[0]) for word in words))
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert put_aside[0] in federation("task", "list", "--quarantined").stdout


def test_a_message_that_only_names_an_execution_is_dismissed_by_its_own_id(
    federation: Callable[..., Any], put_aside: tuple[str, str], transactions: Any
) -> None:
    poison, foreign = put_aside
    with transactions.begin("node:aorus") as session:
        headers = {"task": "some.task", "id": poison}
        liar = str(quarantine.put_aside(session, "not signed", queue="aorus", worker="aorus@host", headers=headers, body=b"[]"))
    assert federation("task", "dismiss", poison, "--reason", "x").returncode == 0
    left = federation("task", "list", "--quarantined").stdout
    assert (poison in left, foreign in left, liar in left) == (False, True, True)
    sent = federation("task", "redrive", poison)
    assert sent.returncode == 0, sent.stderr
    done = federation("task", "dismiss", poison, "--reason", "x")
    assert (done.returncode, "was dismissed already by" in done.stderr) == (1, True)
