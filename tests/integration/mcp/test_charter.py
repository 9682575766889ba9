"""Agents read the charter, are refused by it in its words, and decide on what awaits approval, all through the front door."""

import asyncio
import json
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from mcp import MCPError

from federation.charter import charter_text
from federation.services import agents

pytestmark = pytest.mark.anyio
GATE = {
    "description": "Restart the cache",
    "parameters": {"then": "drop the table"},
    "task_id": "gate",
    "executor": "node",
    "requires_approval": True,
}


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_charter_is_a_resource_and_a_prompt(house: Any, era: str) -> None:
    async with house.client("eve", mode=era) as eve, house.client("ada", mode=era) as ada:
        [listed] = await eve.list_resources()
        assert (str(listed.uri), listed.mime_type) == ("federation://charter", "application/toml")
        [content] = await eve.read_resource("federation://charter")
        assert content.text == charter_text()
        assert [prompt.name for prompt in await eve.list_prompts()] == ["charter"]
        told, leads = [(await client.get_prompt("charter")).messages[0].content.text for client in (eve, ada)]
    assert told.startswith("You are eve, of the role analyst. Looks before it leaps")
    assert "- Propose before you implement." in told
    assert "Leave to others:\n- hand a task to another agent by name, or to a role (lead, human)" in told
    assert "Work of the kind remediate you propose first" in told
    assert "- propose: nobody may decide on tasks that await approval and work of the kind remediate is not begun in it.\n- discuss: " in told
    assert "- execute" not in told
    assert "Leave to others" not in leads


async def test_who_reads_the_charter_as_another_is_refused_as_with_a_tool(house: Any) -> None:
    for name, refused in (("ada", True), ("bob", False)):
        transport = StreamableHttpTransport(f"{house.url}/mcp", auth=house.tokens["bob"], headers={"X-Agent": name})
        async with Client(transport) as bob:
            for read in (partial(bob.read_resource, "federation://charter"), partial(bob.get_prompt, "charter")):
                with pytest.raises(MCPError, match="known from the token alone") if refused else nullcontext():
                    await read()


async def test_who_may_not_even_propose_is_told_whom_to_ask(house: Any) -> None:
    with house.transactions.begin("test:hand") as session:
        token = agents.add(session, "obs", "observer")
    async with Client(f"{house.url}/mcp", auth=token) as obs:
        with pytest.raises(ToolError, match="ask one of them with federation_send"):
            await obs.call_tool("federation_assign_role", {"agent": "bob", "role": "developer", "subtask": "d", "conversation_id": "commons"})


async def test_refusal_names_principle_and_remedy(house: Any) -> None:
    async with house.client("bob") as bob:
        with pytest.raises(ToolError, match=r"^Explicit assignment prevents duplicate work: bob, .* or propose it with requires_approval=true"):
            await bob.call_tool("federation_delegate", {"description": "d", "agent": "dan"})
        parked = {"description": "d", "agent": "dan", "requires_approval": True}
        assert (await bob.call_tool("federation_delegate", parked)).data.state == "awaiting_approval"


async def test_each_of_the_three_principles_refuses_who_breaks_it_by_its_name(house: Any) -> None:
    """Only the Lead assigns, the Analyst proposes before it implements, the Developer claims before it codes."""

    async def refused(client: Any, tool: str, **arguments: Any) -> str:
        with pytest.raises(ToolError) as error:
            await client.call_tool(tool, arguments)
        return str(error.value)

    async with house.client("ada") as ada, house.client("bob") as bob, house.client("eve") as eve:
        given = {"conversation_id": "project-123", "agent": "dan", "role": "developer", "subtask": "Build it"}
        for who in (bob, eve):
            assert (await refused(who, "federation_assign_role", **given)).startswith("Explicit assignment prevents duplicate work: ")
        assert (await ada.call_tool("federation_assign_role", given)).data.state == "assigned"

        await bob.call_tool("federation_delegate", {"description": "Restart the cache", "task_type": "remediate", "task_id": "restart"})
        said = await refused(eve, "federation_claim_task", task_id="restart")
        assert said.startswith(
            "Propose before you implement: eve, of the role analyst, begins work of the kind remediate from an accepted proposal only"
        )

        await ada.call_tool("federation_delegate", {"description": "Code it", "task_id": "code"})
        said = await refused(bob, "federation_complete_task", task_id="code", fencing_token=1, result={"done": True})
        assert said.startswith("Claim before you code: nobody holds task:")
        assert "claim it first" in said


async def test_request_reaches_who_may_decide_and_the_decision_who_asked(house: Any, publisher: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        answers = [(await bob.call_tool("federation_delegate", GATE)).structured_content for _ in range(2)]
        assert answers[0] == answers[1]
        asked = answers[0]
        assert (asked["state"], asked["waiting_for"], asked["execution_id"]) == ("awaiting_approval", "the approval of ada", None)
        assert asked["note"].startswith("It begins when it is approved")
        [request] = (await ada.call_tool("federation_inbox")).structured_content["messages"]
        first, *rest = request["content"].split("\n")
        assert rest[0] == "Restart the cache"
        assert rest[1].startswith("Decide with federation_approve('gate'")
        stands = (await bob.call_tool("federation_task_status", {"task_id": "gate"})).structured_content
        assert (stands["state"], stands["waiting_for"]) == ("awaiting_approval", "the approval of ada")
        [waiting] = (await bob.call_tool("federation_pulse")).structured_content["awaiting_approval"]
        assert (waiting["slug"], waiting["asked_by"], waiting["waits_for"]) == ("gate", "bob", ["ada"])
        assert first == f"Task gate awaits your approval, with {json.dumps(waiting['terms'])}:"
        assert waiting["terms"] == stands["terms"]
        assert (waiting["terms"]["executor"], waiting["terms"]["parameters"]) == ("node", GATE["parameters"])
        with pytest.raises(ToolError, match="Propose before you implement: bob, of the role developer, may not decide"):
            await bob.call_tool("federation_approve", {"task_id": "gate", "decision": "approve"})
        assert publisher.published == []

        approve = {"task_id": "gate", "decision": "approve", "reason": "tested on a copy"}
        done, again = [(await ada.call_tool("federation_approve", approve)).structured_content for _ in range(2)]
        assert done == again
        assert (done["state"], done["decided_by"]) == ("recorded", "ada")
        assert [str(each) for each in publisher.published] == [done["execution_id"]]
        assert (await bob.call_tool("federation_task_status", {"task_id": "gate"})).data.state == "recorded"
        assert (await bob.call_tool("federation_pulse")).data.awaiting_approval == []
        [news] = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert (news["sender"], news["content"]) == ("ada", "Task gate was approved: tested on a copy")


async def test_who_waits_for_a_parked_task_hears_of_its_rejection(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        task = (await bob.call_tool("federation_delegate", GATE)).data
        waiting = asyncio.create_task(bob.call_tool("federation_task_result", {"task_id": "gate", "wait_s": 60}))
        await house.heard(f"task:{task.task_id}")
        with pytest.raises(ToolError, match="reason: got '', wants why it is rejected"):
            await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "reject"})
        refused = {"task_id": "gate", "decision": "reject", "reason": "not on a Friday"}
        assert (await ada.call_tool("federation_approve", refused)).data.state == "cancelled"
        outcome = (await waiting).structured_content
    assert (outcome["finished"], outcome["state"]) == (True, "cancelled")
    assert outcome["result"] == {"rejected_by": "ada", "reason": "not on a Friday"}


async def test_prompt_says_what_must_be_signed(house: Any, chartered: Any) -> None:
    chartered(charter_text().replace('decision = "attested"', 'decision = "signed"'))
    async with house.client("ada") as ada:
        told = (await ada.get_prompt("charter")).messages[0].content.text
    assert "Each decision of yours takes a signature of your own" in told
