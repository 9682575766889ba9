"""Work as agents and people in a terminal hand it out, do it, and move a conversation on: exit codes, JSON, in whose name."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import agents, statements
from federation.transaction import Transactions


@pytest.fixture
def acting(
    federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str, transactions: Transactions
) -> Callable[..., Any]:
    """Runs a command as somebody; as nobody it is the operator's."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    with transactions.begin("test:setup") as session:
        tokens = {name: agents.issue_token(session, name) for name in ("ada", "bob")} | {"pia": agents.add(session, "pia", "human")}

    def run(who: str | None, *words: str) -> Any:
        return federation(*words, **({"FEDERATION_TOKEN": tokens[who]} if who else {}))

    return run


def told(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_who_hands_out_work_at_the_command_line_has_signed_that(acting: Callable[..., Any], transactions: Transactions) -> None:
    ship = told(acting("ada", "task", "delegate", "Ship it", "--id", "ship", "--approval", "--json"))
    build = told(acting("ada", "task", "assign", "project-123", "bob", "developer", "Build it", "--json"))
    assert acting("ada", "task", "assign", "project-123", "pia", "human", build["id"]).returncode == 0
    with transactions.begin("test:hand") as session:
        stated = [(one.actor, one.action, one.mode) for task in (ship, build) for one in statements.about(session, f"task:{task['id']}")]
    assert stated == [("ada", action, "signed") for action in ("task.delegate", "role.assign", "role.assign")]


def test_a_person_does_what_was_left_to_a_person_at_the_command_line(acting: Callable[..., Any]) -> None:
    without = acting(None, "task", "delegate", "Look at it")
    assert (without.returncode, "FEDERATION_TOKEN is not set" in without.stderr) == (2, True)
    ship = told(acting("ada", "task", "delegate", "Ship it", "--id", "ship", "--timeout", "3600", "--json"))
    assert (ship["status"], ship["expires_at"] is None) == ("pending", False)
    look = ("task", "delegate", "Look at it", "--executor", "person", "--parent", "ship", "--id", "look", "--parameter", "page=home")
    assert acting("ada", *look).stdout == "Task look is pending.\n"
    refused = acting("bob", "task", "take", "look")
    assert (refused.returncode, "task look is for a person" in refused.stderr) == (1, True)
    mine = told(acting("pia", "task", "take", "look", "--for", "looking", "--json"))
    again = acting("bob", "task", "complete", "look", "--token", str(mine["fencing_token"]))
    assert (again.returncode, "pia holds task" in again.stderr) == (1, True)
    open_ = acting("ada", "task", "take", "ship")
    assert open_.returncode == 0
    early = acting("ada", "task", "complete", "ship", "--token", "1")
    assert (early.returncode, "has parts that have not ended: look (running)" in early.stderr) == (1, True)
    shown = acting(None, "task", "show", "ship").stdout
    assert "look             running, pia: Look at it" in shown
    wrong = acting("pia", "task", "complete", "look", "--token", "1", "--result", "[1]")
    assert (wrong.returncode, "--result: got '[1]', wants a JSON object" in wrong.stderr) == (2, True)
    done = ("task", "complete", "look", "--token", str(mine["fencing_token"]), "--result", '{"looks": "fine"}', "--json")
    assert told(acting("pia", *done))["status"] == "completed"
    assert told(acting("ada", "task", "give-back", "ship", "--json")) == {"released": True}
    assert acting("ada", "task", "give-back", "ship").returncode == 1
    # The operator's view, with how far the whole is.
    assert told(acting(None, "task", "show", "ship", "--json"))["task ship"]["overall"] == "completed"


def test_the_lead_designates_and_moves_a_conversation_on_and_others_do_not(acting: Callable[..., Any]) -> None:
    refused = acting("bob", "task", "assign", "project-123", "bob", "developer", "Build it")
    assert (refused.returncode, "Explicit assignment prevents duplicate work: bob" in refused.stderr) == (1, True)
    assert (
        acting("ada", "task", "assign", "project-123", "bob", "developer", "Build it", "--id", "build").stdout == "Task build is assigned, bob's.\n"
    )
    unknown = acting("ada", "task", "assign", "project-123", "bob", "builder", "Build it")
    assert (unknown.returncode, "no role 'builder'" in unknown.stderr) == (1, True)

    assert acting("bob", "phase", "project-123").stdout.startswith("project-123 is in no phase.\nIt goes on to propose.\n")
    refused = acting("bob", "phase", "project-123", "propose")
    assert (refused.returncode, "may not move a conversation on to another phase; lead may" in refused.stderr) == (1, True)
    moved = told(acting("ada", "phase", "project-123", "propose", "--reason", "a plan first", "--json"))
    assert (moved["phase"], moved["next"], moved["moved_by"], moved["reason"]) == ("propose", "discuss", "ada", "a plan first")
    assert [(one["agent"], one["role"], one["task"], one["state"]) for one in moved["roles"]] == [("bob", "developer", "build", "assigned")]
    early = acting(None, "phase", "project-123", "discuss")
    assert (early.returncode, "goes on to discuss when something was proposed in it" in early.stderr) == (1, True)
    wrong = acting("ada", "phase", "project-123", "dance")
    assert (wrong.returncode, "wants one of propose, discuss" in wrong.stderr) == (2, True)
    assert "no conversation 'project-124'; nearest: project-123" in acting(None, "phase", "project-124").stderr
