"""What everybody does, at the command line, now and at a time; and an agent that is let speak STOMP by an operator."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from federation.services import cop
from federation.transaction import Transactions


@pytest.fixture
def served(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> dict[str, str]:
    """An environment in which commands have their servers."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
    }
    return surroundings


def test_operator_sees_what_everybody_does_and_did(federation: Callable[..., Any], served: dict[str, str], transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        first = cop.update_state(session, "Reading\x1b[31m [bold]logs[/]", action="EXECUTING", wondering="crypto review?")
    with transactions.begin("ada") as session:
        cop.update_state(session, "Waiting", action="WAITING", wondering="crypto review?", visibility="nobody")
    with transactions.begin("eve") as session:
        cop.update_state(session, "Idle", action="IDLE", offering="reviews of crypto")
    shown = federation("pulse").stdout
    [ada] = [line.split() for line in shown.splitlines() if line.startswith("ada ") and " lead " in line]
    assert ada[:4] == ["ada", "lead", "WAITING", "Waiting"]
    assert "ada wonders «crypto review?»: eve offers «reviews of crypto»" in shown
    then = federation("pulse", "--at", first.isoformat()).stdout
    [ada_then] = [line for line in then.splitlines() if line.startswith("ada ") and " lead " in line]
    assert "EXECUTING" in ada_then
    assert "[bold]logs[/]" in ada_then
    assert "\x1b[31m" not in ada_then
    told = json.loads(federation("pulse", "--at", (first - timedelta(days=1)).isoformat(), "--json").stdout)
    assert told["rows"] == []
    assert json.loads(federation("pulse", "--json").stdout)["matches"][0]["shared"] == ["crypto", "review"]
    wrong = federation("pulse", "--at", "yesterday")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("federation: --at: got 'yesterday', wants a time such as 14:05")
    assert federation("pulse", "--at", "00:00").returncode == 0


def test_operator_lets_an_agent_speak_stomp_and_ends_it(federation: Callable[..., Any], served: dict[str, str], transactions: Transactions) -> None:
    served["FEDERATION_STOMP_PORT"] = "61999"
    told = json.loads(federation("agent", "stomp", "bob", "--expires", "60", "--json").stdout)
    assert told == {
        "name": "bob",
        "address": "stomp://127.0.0.1:61999",
        "passcode": "a token of bob, as for MCP",
        "reads": ["/queue/federation.bob", "/topic/federation.broadcast"],
        "writes": "/queue/federation.from.bob",
        "expires_s": 60,
    }
    assert "stomp://127.0.0.1:61999" in federation("agent", "stomp", "bob").stdout
    unknown = federation("agent", "stomp", "bobb")
    assert (unknown.returncode, unknown.stderr) == (1, "federation: no agent 'bobb'; nearest: bob\n")
    assert federation("agent", "stomp", "bob", "--expires", "0").returncode == 2
    assert federation("agent", "stomp", "bob", "--off").stdout == "bob is fed no more, and what it writes is not heard.\n"
    again = federation("agent", "stomp", "bob", "--off")
    assert (again.returncode, again.stderr) == (1, "federation: no feed 'bob'; there is broadcast\n")
