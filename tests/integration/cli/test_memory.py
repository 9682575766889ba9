"""`federation memory` as a script sees it: as whose token it is, and as nobody else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import agents


@pytest.fixture
def memory(federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> Callable[..., Any]:
    """`federation memory …` on a database where ada, bob, dan and eve exist."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return lambda *words, **more: federation("memory", *words, **more)


def test_a_memorys_life_as_a_script_sees_it(memory: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("test:setup") as session:
        bob, eve = ({"FEDERATION_TOKEN": agents.issue_token(session, name)} for name in ("bob", "eve"))
    nobody = memory("list")
    assert (nobody.returncode, "FEDERATION_TOKEN is not set" in nobody.stderr) == (2, True)
    kept = json.loads(memory("add", "Deploys need the [red]VPN\x1b[31m", "--about", "deploy", "--json", **bob).stdout)
    assert (kept["visibility"], kept["audience"], kept["new"]) == ("nobody", "bob", True)
    assert "Remembered as " in memory("add", "Lunch is at noon", "--visibility", "all", **bob).stdout
    shown = memory("list", **bob).stdout
    assert "[red]VPN" in shown
    assert "\x1b" not in shown
    [found] = json.loads(memory("list", "which VPN", "--json", **bob).stdout)["memories"]
    assert (found["memory_id"], found["about"]) == (kept["memory_id"], ["deploy"])
    assert "VPN" not in memory("list", **eve).stdout
    assert "Lunch" in memory("list", **eve).stdout
    refused = memory("forget", kept["memory_id"], **eve)
    assert (refused.returncode, refused.stderr) == (1, f"federation: no memory '{kept['memory_id']}'\n")
    assert memory("forget", kept["memory_id"], **bob).returncode == 0
    assert memory("forget", kept["memory_id"], **bob).returncode == 1
    assert "VPN" not in memory("list", **bob).stdout
    assert memory("add", "x", "--conversation", "nowhere", **bob).returncode == 1
    assert memory("add", "x", "--visibility", "friends", **bob).returncode == 2
