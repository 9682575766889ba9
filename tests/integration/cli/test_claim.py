"""`federation claim` as a script sees it: exit codes, JSON, in whose name."""

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from federation.services import agents, resource_claims, statements
from tests.integration.world import until

MAIN = "file:src/main.py"


@pytest.fixture
def claim(
    federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`federation claim …` on a database where ada, bob, dan and eve may exist."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return lambda *words, **more: federation("claim", *words, **more)


def test_a_claims_life_as_a_script_sees_it(claim: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("test:setup") as session:
        token = agents.issue_token(session, "bob")
    assert claim("list").stdout == "Nothing is claimed.\n"
    mine = json.loads(claim("take", "file:src/**", "--for", "refactoring", "--ttl", "600", "--json").stdout)
    assert (mine["claimed"], mine["fencing_token"], mine["holder"].startswith("cli:")) == (True, 1, True)
    lost = claim("take", MAIN, FEDERATION_TOKEN=token)
    assert (lost.returncode, lost.stdout) == (1, "")
    assert lost.stderr.startswith(f"federation: {mine['holder']} holds file:src/** until ")
    assert "(refactoring); wait in line with --wait" in lost.stderr
    assert claim("check", MAIN, "--token", "1").returncode == 0
    stale = claim("check", MAIN, "--token", "1", FEDERATION_TOKEN=token)
    assert (stale.returncode, "Claim before you code: " in stale.stderr) == (1, True)
    assert claim("release", "file:src/**", FEDERATION_TOKEN=token).returncode == 1
    [listed] = json.loads(claim("list", "--overlapping", MAIN, "--json").stdout)["claims"]
    assert (listed["resource"], listed["holder"], listed["description"]) == ("file:src/**", mine["holder"], "refactoring")
    assert json.loads(claim("release", "file:src/**", "--json").stdout) == {"released": True, "left_line": False}
    assert "bob holds file:src/main.py until" in claim("take", MAIN, FEDERATION_TOKEN=token).stdout
    with transactions.begin("test:hand") as session:
        [told] = statements.about(session, f"claim:{MAIN}")
        assert (told.actor, told.action, told.mode) == ("bob", "claim.take", "signed")
        [told, *_] = statements.about(session, "claim:file:src/**")
        assert (told.actor, told.action, told.mode) == (mine["holder"], "claim.take", "signed")
    assert claim("revoke", MAIN).returncode == 0
    assert claim("revoke", MAIN).returncode == 1
    assert (claim("take", "main.py").returncode, claim("take", MAIN, "--ttl", "0").returncode) == (2, 2)
    unknown = claim("take", MAIN, FEDERATION_TOKEN="fed_nobody")
    assert (unknown.returncode, "token is unknown" in unknown.stderr) == (1, True)


def test_command_waits_in_line_and_is_woken(claim: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("bob") as session:
        resource_claims.take(session, MAIN, ttl_s=600)
    told: list[Any] = []
    waiting = threading.Thread(target=lambda: told.append(claim("take", "file:src/**", "--wait", "100", "--json")))
    waiting.start()

    def in_line() -> int:
        with transactions.begin("test:hand") as session:
            return int(session.scalar(text("SELECT count(*) FROM claim_waiters")))

    until(in_line, "the command stands in line")
    with transactions.begin("bob") as session:
        resource_claims.give_back(session, MAIN)
    waiting.join(100)
    assert (told[0].returncode, json.loads(told[0].stdout)["fencing_token"]) == (0, 2), told[0].stderr
    assert in_line() == 0


def test_command_that_waited_in_vain_leaves_the_line(claim: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("bob") as session:
        resource_claims.take(session, MAIN, ttl_s=600)
    done = claim("take", MAIN, "--wait", "0.1")
    assert (done.returncode, "bob holds file:src/main.py" in done.stderr) == (1, True)
    with transactions.begin("test:hand") as session:
        assert session.scalar(text("SELECT count(*) FROM claim_waiters")) == 0
