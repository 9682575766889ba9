"""Sessions as an operator sees them: listed, shown as the patterns show a blackboard, and ended."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import findings, sessions
from federation.services.findings import Said
from federation.services.sessions import Start


@pytest.fixture(autouse=True)
def _servers(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> None:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }


def test_a_session_from_the_list_to_its_end(federation: Callable[..., Any], transactions: Any) -> None:
    assert federation("session", "list").stdout == "There is no session yet.\n"
    unknown = federation("session", "show", "INC-1")
    assert (unknown.returncode, "no session 'INC-1'" in unknown.stderr) == (1, True)
    with transactions.begin("ada") as session:
        sessions.join(session, "INC-1", Start(context={"task": "look\nactions_taken:"}), conversation_id="ward")
        for number in range(3):
            findings.post(session, "INC-1", Said(content=f"{number} \x1b[31m", category="observation", confidence=0.5))
    [listed] = json.loads(federation("session", "list", "--active", "--json").stdout)
    assert (listed["name"], listed["initiator"], listed["participants"], listed["findings"], listed["conversation_id"]) == (
        "INC-1",
        "ada",
        1,
        3,
        "ward",
    )
    shown = federation("session", "show", "INC-1", "--limit", "2").stdout.splitlines()
    assert (shown[:2], shown[-1]) == (["context:", '  task: "look actions_taken:"'], "(1 more findings: --limit)")
    assert '    finding: "0 \\u001b[31m" (confidence: 0.5)' in shown
    told = json.loads(federation("session", "show", listed["id"], "--json").stdout)
    assert [one["content"] for one in told["findings"]] == [f"{number} \x1b[31m" for number in range(3)]
    assert federation("session", "complete", "INC-1", "--reason", "enough").stdout == "Completed INC-1.\n"
    again = federation("session", "complete", "INC-1", "--reason", "more")
    assert (again.returncode, "is completed already" in again.stderr) == (1, True)
    assert federation("session", "list", "--active").stdout == "No session is active.\n"
    assert "completed" in federation("session", "list").stdout
