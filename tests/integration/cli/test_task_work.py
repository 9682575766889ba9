"""Work as agents and people in a terminal hand it out, do it, and move a conversation on: exit codes, JSON, in whose name."""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation.placement.node import Gpu
from federation.services import nodes, statements
from federation.services.nodes import Announcement
from federation.transaction import Transactions

CARDS = (Gpu(kind="RTX", vram_gib=32),) * 2
FARAWAY = Announcement("faraway", "lead", ("frag",), ("llamacpp",), ("small",), CARDS, (), 2, "faraway@host", 1, uuid.uuid4(), simulated=False)


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


def test_who_decides_and_cancels_at_the_command_line_is_the_agent_whose_token_is_set(acting: Callable[..., Any], transactions: Transactions) -> None:
    for name in ("risky", "late", "own"):
        assert acting("ada" if name == "own" else "bob", "task", "delegate", "Restart it", "--id", name, "--approval").returncode == 0
    refused = acting("bob", "task", "approve", "risky")
    assert (refused.returncode, "bob, of the role developer, may not decide on tasks" in refused.stderr) == (1, True)
    approved = told(acting("ada", "task", "approve", "risky", "--reason", "tried", "--conversation", "commons", "--json"))
    assert (approved["decided_by"], approved["decision_reason"], approved["status"]) == ("ada", "tried", "pending")
    assert told(acting("ada", "task", "reject", "late", "--reason", "no", "--json"))["decided_by"] == "ada"
    assert acting(None, "task", "approve", "own").returncode == 0
    with transactions.begin("test:hand") as session:
        stated = [(one.actor, one.action, one.mode) for one in statements.about(session, f"task:{approved['id']}")]
    assert stated == [("bob", "task.delegate", "signed"), ("ada", "task.decide", "signed")]
    other = acting("bob", "task", "cancel", "own")
    assert (other.returncode, "who delegated task own" in other.stderr) == (1, True)
    assert told(acting("bob", "task", "cancel", "risky", "--json"))["cancelled"] is True
    shown = told(acting(None, "task", "show", "risky", "--json"))["task risky"]
    assert shown["result"] == {"cancelled_by": "bob", "reason": ""}
    assert acting(None, "task", "cancel", "own", "--reason", "not needed").stdout == "Cancelled own.\n"
    hidden = acting("ada", "task", "delegate", "Look", "--id", "hidden", "--conversation", "two", "--approval")
    assert hidden.returncode == 0
    unseen = acting("bob", "task", "cancel", "hidden")
    assert (unseen.returncode, "no task 'hidden'" in unseen.stderr) == (1, True)


def test_work_for_a_node_is_handed_out_with_what_the_node_must_have(acting: Callable[..., Any], transactions: Transactions) -> None:
    with transactions.begin("node:faraway") as session:
        nodes.announce(session, FARAWAY)
    needs = ("--model", "small", "--tag", "frag", "--gpus", "2", "--min-vram", "24", "--start-at", "2031-01-31T18:00+00:00")
    made = told(acting("ada", "task", "delegate", "Look", "--id", "far", *needs, "--json"))
    assert (made["executor"], made["execution"]) == ("node", "unplaced")
    shown = told(acting(None, "task", "show", "far", "--json"))["task far"]
    assert shown["requirements"] | {"engine": ""} == {"model": "small", "tags": ["frag"], "gpus": 2, "min_vram_gib": 24.0, "engine": ""}
    assert shown["start_at"].startswith("2031-01-31 18:00:00")
    placed = acting("ada", "task", "delegate", "Look", "--node", "faraway", "--engine", "llamacpp").stdout
    assert re.search(r"\nIts execution \S+ is \w+", placed)
    # As the tool has it: of a role alone it is a node, of an agent's role it is said who does it.
    assert told(acting("ada", "task", "delegate", "Look", "--role", "lead", "--json"))["executor"] == "node"
    assert told(acting("ada", "task", "delegate", "Look", "--role", "developer", "--executor", "agent", "--json"))["executor"] == "agent"
    for words, status, says in (
        (("--node", "faraway", "--agent", "bob"), 2, "wants a task of executor 'node'"),
        (("--executor", "node", "--agent", "bob"), 2, "agent: got 'bob', wants no agent where executor is 'node'"),
        (("--node", "farawa"), 1, "no node 'farawa'; nearest: faraway"),
        (("--start-at", "soon", "--node", "faraway"), 2, "--start-at: got 'soon', wants a time such as 14:05"),
        (("--start-at", "18:00"), 2, "start_at: got"),
        (("--min-vram", "nan"), 2, "'--min-vram'"),
    ):
        wrong = acting("ada", "task", "delegate", "Look", *words)
        assert (wrong.returncode, says in wrong.stderr, wrong.stdout) == (status, True, ""), wrong.stderr


def test_a_result_comes_from_a_file_or_standard_input(acting: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text('{"leaks": "none\\u0000"}')
    for name, given, text in (("one", "-", '{"leaks": 1}'), ("two", f"@{file}", "")):
        assert acting("ada", "task", "delegate", "Look", "--id", name).returncode == 0
        token = str(told(acting("bob", "task", "take", name, "--json"))["fencing_token"])
        if name == "two":
            wrong = acting("bob", "task", "complete", name, "--token", token, "--result", given)
            assert (wrong.returncode, "text without NUL" in wrong.stderr) == (2, True)
            file.write_text('{"leaks": 1}')
        assert acting("bob", "task", "complete", name, "--token", token, "--result", given, text=text).returncode == 0
        assert told(acting(None, "task", "show", name, "--json"))[f"task {name}"]["result"] == {"leaks": 1}
