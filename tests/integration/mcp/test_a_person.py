"""A person is a peer: the tools of all others, and what it reads, writes and votes counts as theirs."""

from typing import Any

import pytest

from federation.services import agents

pytestmark = pytest.mark.anyio


async def test_a_person_has_the_same_tools_and_reads_writes_and_votes_as_a_peer(house: Any) -> None:
    with house.transactions.begin("test:setup") as session:
        house.tokens["pia"] = agents.add(session, "pia", "human")
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("pia") as pia:

        async def call(who: Any, tool: str, **arguments: Any) -> Any:
            return (await who.call_tool(tool, arguments)).structured_content

        assert [tool.name for tool in await pia.list_tools()] == [tool.name for tool in await ada.list_tools()]
        await call(ada, "federation_send", content="Deploy?", to="pia")
        [asked] = (await call(pia, "federation_inbox"))["messages"]
        answer = await call(pia, "federation_send", content="Let us vote", reply_to=asked["message_id"])
        assert answer["recipients"] == ["ada"]
        await call(pia, "federation_update_state", summary="Looking on", offering="judgement")
        seen = [row for row in (await call(bob, "federation_pulse"))["rows"] if row["name"] == "pia"]
        assert [(row["role"], row["summary"]) for row in seen] == [("human", "Looking on")]

        voters = {"ada": ada, "bob": bob, "pia": pia}
        vote = await call(pia, "federation_consensus_request", question="Deploy?", consensus_id="deploy", voters=list(voters), timeout_s=300)
        for who, response in (("ada", "yes"), ("bob", "no"), ("pia", "no")):
            await call(voters[who], "federation_consensus_acknowledge", consensus_id="deploy", options_hash=vote["options_hash"])
            await call(voters[who], "federation_consensus_respond", consensus_id="deploy", response=response)
        found = await call(ada, "federation_consensus_results", consensus_id="deploy")
        assert (found["state"], found["winner"], found["votes"]) == ("decided", "no", {"yes": 1, "no": 2})

        parked = await call(bob, "federation_delegate", description="Restart the cache", task_id="restart", requires_approval=True)
        assert "pia" in parked["waiting_for"]
        await call(pia, "federation_approve", task_id="restart", decision="approve", reason="fine")
        taken = await call(bob, "federation_task_status", task_id="restart")
        assert taken["state"] == "pending"
