"""Sessions through the front door: the seven tools from the first word to the outcome, the incident of the patterns, and who waits is woken."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp.exceptions import ToolError

from federation.services import agents, board, findings, sessions
from federation.services.findings import Said
from federation.services.session_actions import Proposed, propose
from federation.services.sessions import Start

pytestmark = pytest.mark.anyio
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "incident.py"
VALIDATOR, LEAD, ADVISOR = "ops/deploy-validator", "security/incident-response-lead", "ops/rollback-advisor"
CAST = {VALIDATOR: "developer", LEAD: "lead", ADVISOR: "analyst"}
# As the coordination patterns show the blackboard, but for the time.
BOARD = """\
context:
  task: "investigate incident INC-1234"
  started: 2025-01-02T10:30:00Z

findings:
  - agent: ops/deploy-validator
    finding: "deployment v1.2.3 at 10:15 UTC"
  - agent: security/incident-response-lead
    finding: "error rate spike correlates with deploy"

hypotheses:
  - "database connection pool exhaustion" (confidence: 0.7)
  - "memory leak in new feature" (confidence: 0.3)

actions_taken:
  - agent: ops/rollback-advisor
    action: "recommended rollback"
    status: awaiting_approval"""


async def answer(client: Any, tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, {"session_id": "INC-1234", **arguments})).structured_content


async def refused(client: Any, tool: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as error:
        await answer(client, tool, **arguments)
    return str(error.value)


@pytest.fixture
def cast(house: Any) -> dict[str, str]:
    """The agents of the patterns, with their tokens."""
    with house.transactions.begin("test:setup") as session:
        house.tokens |= {name: agents.add(session, name, role) for name, role in CAST.items()}
    return {name: house.tokens[name] for name in CAST}


def rendered(house: Any) -> list[str]:
    with house.transactions.begin(LEAD) as session:
        found = sessions.find(session, "INC-1234")
        page, _ = findings.page(session, found)
        return board.lines(board.board(session, found), [board.finding_view(one) for one in page])


async def test_the_incident_of_the_patterns_runs_from_end_to_end(house: Any, cast: dict[str, str]) -> None:
    given = dict(zip(("DEPLOY_VALIDATOR", "INCIDENT_LEAD", "ROLLBACK_ADVISOR"), cast.values(), strict=True))
    command = [sys.executable, str(EXAMPLE), f"{house.url}/mcp"]
    done = await anyio.run_process(command, env={**os.environ, **given}, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [
        "asked before: 0.05",
        "database connection pool exhaustion: 0.84, confirmed",
        "memory leak in new feature: 0.19, refuted",
        "{'decision': 'execute', 'votes_for': 2, 'votes_against': 0, 'abstentions': 1}",
        "outcome: v1.2.3 exhausted the connection pool",
    ]
    lines = rendered(house)
    assert lines[lines.index("actions_taken:") + 1 :][:3] == [f"  - agent: {ADVISOR}", '    action: "Roll back v1.2.3"', "    status: completed"]
    assert '  - "memory leak in new feature" (confidence: 0.19, refuted by ops/deploy-validator)' in lines


async def test_the_blackboard_of_the_patterns_renders_as_it_stands(house: Any, cast: dict[str, str]) -> None:
    begin = house.transactions.begin
    with begin(LEAD) as session:
        sessions.join(session, "INC-1234", Start(context={"task": "investigate incident INC-1234"}))
    for who, content, category, sure in (
        (VALIDATOR, "deployment v1.2.3 at 10:15 UTC", "observation", None),
        (LEAD, "error rate spike correlates with deploy", "observation", None),
        (ADVISOR, "memory leak in new feature", "hypothesis", 0.3),
        (VALIDATOR, "database connection pool exhaustion", "hypothesis", 0.7),
    ):
        with begin(who) as session:
            sessions.join(session, "INC-1234", Start())
            findings.post(session, "INC-1234", Said(content=content, category=category, confidence=sure))
    with begin(ADVISOR) as session:
        propose(session, "INC-1234", Proposed(content="recommended\n  rollback", type="modify", target="web"))
    told = [line if not line.startswith("  started: ") else "  started: 2025-01-02T10:30:00Z" for line in rendered(house)]
    assert told == BOARD.splitlines()


async def test_each_tool_says_what_is_wrong(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        assert (await refused(bob, "swarm_join_session")).startswith("no session 'INC-1234'")
        await answer(ada, "swarm_join_session", context={"task": "look"})
        finding = {"content": "x", "category": "observation"}
        assert "bob has not joined session INC-1234" in await refused(bob, "swarm_post_finding", **finding)
        await answer(bob, "swarm_join_session")
        assert "confidence: got 1.1, wants a number from 0 to 1" in await refused(bob, "swarm_post_finding", **finding, confidence=1.1)
        for evidence, says in (
            ([{"query": "x"}], "evidence.0.source: got nothing, wants a text that is not empty"),
            ([{"source": "x", "result": "a\0b"}], "evidence.0.result: got '3 characters', wants text without NUL"),
            (["x"], "evidence.0: got 'x', wants an object"),
        ):
            assert says in await refused(bob, "swarm_post_finding", **finding, evidence=evidence)
        assert "no argument 'evidence.0.querry'" in await refused(bob, "swarm_post_finding", **finding, evidence=[{"source": "x", "querry": "y"}])
        assert "query: got None, wants a text too" in await refused(bob, "swarm_get_findings", source="prometheus")
        assert "no action 'rollback'" in await refused(bob, "swarm_vote", action_id="rollback", vote="yes", options_hash="0" * 64)
        assert (await answer(bob, "swarm_claim_task"))["note"].startswith("nothing that you may take is open here")


async def test_a_query_is_claimed_run_once_and_shared(house: Any) -> None:
    asked = {"source": "prometheus", "query": "rate(errors[5m])"}
    async with house.client("ada") as ada, house.client("bob") as bob:
        await answer(ada, "swarm_join_session", context={"task": "look"})
        await answer(bob, "swarm_join_session")
        nothing = await answer(ada, "swarm_get_findings", **asked)
        assert (nothing["findings"], nothing["hypotheses"], nothing["actions"], nothing["claim"].startswith("query:")) == ([], None, None, True)
        assert (await ada.call_tool("federation_claim", {"resource": nothing["claim"]})).data.claimed
        held = await bob.call_tool("federation_claims", {"resource": nothing["claim"]})
        assert [one["holder"] for one in held.structured_content["claims"]] == ["ada"]
        first = await answer(ada, "swarm_post_finding", content="5 %", category="observation", evidence=[{**asked, "result": "0.05"}])
        assert (await bob.call_tool("federation_claims", {"resource": nothing["claim"]})).structured_content["claims"] == []
        found = await answer(bob, "swarm_get_findings", **asked)
        assert ([one["finding_id"] for one in found["findings"]], found["claim"]) == ([first["finding_id"]], None)
        again = await answer(bob, "swarm_post_finding", content="so", category="observation", evidence=[asked])
        assert again["duplicates"] == [{**asked, "finding_id": first["finding_id"], "agent": "ada", "result": "0.05"}]


async def test_who_waits_is_woken_by_a_finding_and_by_an_action(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        begun = await answer(ada, "swarm_join_session", context={"task": "look"})
        await answer(bob, "swarm_join_session")

        async def woken_by(after: int, tool: str, **arguments: Any) -> Any:
            waiting = asyncio.create_task(answer(ada, "swarm_get_findings", after=after, wait_s=240))
            await house.heard(f"session:{begun['session_id']}")
            started = time.monotonic()
            await answer(bob, tool, **arguments)
            found = await waiting
            # Nobody looks again by itself before 30 s are over: what woke it was the notice.
            assert time.monotonic() - started < 25
            return found

        first = await woken_by(0, "swarm_post_finding", content="x", category="observation")
        assert [one["agent"] for one in first["findings"]] == ["bob"]
        second = await woken_by(first["cursor"], "swarm_propose_action", content="Look", type="query", requires_approval=False, action_id="look")
        assert (second["findings"], [one["status"] for one in second["actions"]], second["cursor"]) == ([], ["pending"], first["cursor"])
        taken = await woken_by(first["cursor"], "swarm_claim_task")
        assert [(one["status"], one["assigned_to"]) for one in taken["actions"]] == [("running", "bob")]


async def test_an_action_is_taken_by_one_and_done_once(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("eve") as eve:
        await answer(ada, "swarm_join_session", context={"task": "look"})
        for client in (bob, eve):
            await answer(client, "swarm_join_session")
        await answer(bob, "swarm_propose_action", content="Repair", type="modify", requires_approval=False, action_id="repair")
        nothing = await answer(eve, "swarm_claim_task")
        assert not nothing["claimed"], "an analyst begins no remedy that was not proposed"
        assert "repair is refused you: " in nothing["note"]
        assert "from an accepted proposal only" in nothing["note"]
        assert "from an accepted proposal only" in await refused(eve, "swarm_claim_task", action_id="repair")
        await answer(bob, "swarm_propose_action", content="Look", type="query", requires_approval=False, action_id="look")
        taken = await answer(eve, "swarm_claim_task")
        assert (taken["claimed"], taken["slug"], taken["description"], taken["parameters"]) == (
            True,
            "look",
            "Look",
            {"type": "query", "parameters": {}},
        )
        lost = await answer(bob, "swarm_claim_task", action_id="look")
        assert (lost["claimed"], lost["holder"], lost["note"]) == (False, "eve", "eve has it; take another action")
        end = {"action_id": "look", "result": {"found": 7}}
        assert "eve holds task:" in await refused(bob, "swarm_complete_task", **end, fencing_token=taken["fencing_token"])
        done = await answer(eve, "swarm_complete_task", **end, fencing_token=taken["fencing_token"])
        assert (done["status"], done["action_id"]) == ("completed", taken["action_id"])
        assert await answer(eve, "swarm_complete_task", **end, fencing_token=taken["fencing_token"]) == done
        found = await answer(ada, "swarm_get_findings")
        assert [(one["slug"], one["status"], one["result"]) for one in found["actions"]] == [
            ("repair", "pending", None),
            ("look", "completed", {"found": 7}),
        ]
