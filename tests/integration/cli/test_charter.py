"""The charter at the command line: roles of one's own, a file that is wrong, and an operator's decisions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federation.charter import charter_text
from federation.services import tasks
from federation.transaction import Transactions


@pytest.fixture
def served(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> dict[str, str]:
    """An environment in which commands have their servers."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return surroundings


def test_wrong_charter_stops_the_start_and_a_role_of_ones_own_has_agents(
    federation: Callable[..., Any], served: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "charter.toml"
    file.write_text(charter_text().replace("may = []", 'may = ["rule"]'))
    served |= {"FEDERATION_CHARTER": str(file)}
    for command in (("up", "--detach", "--nodes", "baby"), ("serve",), ("agent", "add", "rea", "--role", "reviewer")):
        done = federation(*command)
        assert done.returncode == 2
        assert done.stderr.startswith(f"federation: {file}: roles.observer.may.0: got 'rule', wants 'designate', ")
        assert len(done.stderr.splitlines()) == 1
    doctor = json.loads(federation("doctor", "--json").stdout)["checks"]
    assert [check["verdict"] for check in doctor if check["check"] == "charter"] == ["fail"]
    file.write_text(charter_text() + '\n[roles.reviewer]\nabout = "Reads and decides."\nmay = ["claim", "approve"]\n')
    assert federation("agent", "add", "rea", "--role", "reviewer").returncode == 0


def test_charter_that_up_was_given_holds_in_every_shell(
    federation: Callable[..., Any], served: dict[str, str], data_dir: Path, tmp_path: Path
) -> None:
    file, wrong = tmp_path / "charter.toml", tmp_path / "wrong.toml"
    wrong.write_text("roles = 3")
    refused = federation("up", "--detach", "--charter", str(wrong))
    assert (refused.returncode, data_dir.exists()) == (2, False)
    assert refused.stderr.startswith(f"federation: {wrong}: ")

    file.write_text(charter_text() + '\n[roles.reviewer]\nabout = "Reads and decides."\nmay = ["claim", "approve"]\n')
    other = federation("up", "--detach", "--charter", str(file), FEDERATION_CHARTER=str(wrong))
    assert (other.returncode, data_dir.exists()) == (2, False)
    assert "wants that variable unset" in other.stderr

    # The port is nobody's, so nothing is started.
    nowhere = {"FEDERATION_BROKER_URL": "activemq://a:b@127.0.0.1:9/"}
    assert federation("up", "--detach", "--charter", str(file), **nowhere).returncode != 0
    assert federation("agent", "add", "rea", "--role", "reviewer").returncode == 0
    assert federation("up", "--detach", "--charter", "shipped", **nowhere).returncode != 0
    back = federation("agent", "add", "ria", "--role", "reviewer")
    assert (back.returncode, "no role 'reviewer'" in back.stderr) == (1, True)


def test_operator_approves_and_rejects(federation: Callable[..., Any], served: dict[str, str], transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        for slug in ("wanted", "unwanted"):
            tasks.delegate(session, "Restart the cache", slug=slug, agent="dan", parameters={"then": "look"}, requires_approval=True)
    listed = federation("task", "list", "--status", "awaiting_approval", "--json")
    assert {(row["slug"], row["waiting_for"]) for row in json.loads(listed.stdout)} == {
        ("wanted", "the approval of ada"),
        ("unwanted", "the approval of ada"),
    }
    assert "2 tasks await approval. See: federation task list --status awaiting_approval" in federation("status").stdout
    told = json.loads(federation("task", "approve", "wanted", "--reason", "fine", "--json").stdout)
    assert (told["status"], told["assigned_to"], told["decision_reason"]) == ("assigned", "dan", "fine")
    assert (told["reserved_for"], told["parameters"]) == ("dan", {"then": "look"})
    assert told["decided_by"].startswith("cli:")
    assert federation("task", "reject", "unwanted").returncode == 2
    assert federation("task", "reject", "unwanted", "--reason", "not on a Friday").stdout == "Rejected unwanted: it has ended.\n"
    late = federation("task", "approve", "unwanted")
    assert (late.returncode, late.stdout) == (1, "")
    assert "with 'reject' before, and now with 'approve': the first counts" in late.stderr
