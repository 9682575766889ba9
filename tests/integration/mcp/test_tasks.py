"""Work handed to agents: found in the inbox, claimed by one, completed with the token, hidden from strangers."""

import asyncio
import uuid
from typing import Any

import pytest
from fastmcp.exceptions import ToolError

from federation.services import tasks

pytestmark = pytest.mark.anyio


def claim(house: Any, agent: str, task_id: str) -> Any:
    """Claim as the execution does; no worker runs here."""
    with house.transactions.begin(agent) as session:
        return tasks.claim(session, task_id, description="", ttl_s=60)


async def test_task_for_agents_is_announced_claimed_and_completed(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        task = (
            await ada.call_tool(
                "federation_delegate", {"description": "Profile memory", "role": "developer", "executor": "agent", "task_id": "memory-profile"}
            )
        ).data
        assert (task.slug, task.state, task.executor, task.node) == ("memory-profile", "pending", "agent", None)
        (message,) = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert message["message_type"] == "task"
        assert message["data"]["task_id"] == str(task.task_id)

        won = claim(house, "bob", "memory-profile")
        assert not claim(house, "dan", "memory-profile").claimed
        assert (await ada.call_tool("federation_task_status", {"task_id": "memory-profile"})).data.assigned_to == "bob"
        completion = {"task_id": "memory-profile", "fencing_token": won.fencing_token, "result": {"leaks": 0}}
        with pytest.raises(ToolError, match="Claim before you code: bob holds"):
            await dan.call_tool("federation_complete_task", completion)
        waiting = asyncio.create_task(ada.call_tool("federation_task_result", {"task_id": "memory-profile", "wait_s": 30}))
        assert (await bob.call_tool("federation_complete_task", completion)).data.state == "completed"
        outcome = (await waiting).structured_content
    assert (outcome["finished"], outcome["state"], outcome["result"], outcome["done_by"]) == (True, "completed", {"leaks": 0}, "bob")


async def test_released_task_may_be_claimed_by_another(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        await ada.call_tool("federation_delegate", {"description": "d", "task_id": "t"})
        first = claim(house, "bob", "t")
        assert (await bob.call_tool("federation_release_task", {"task_id": "t"})).data.released
        assert not (await bob.call_tool("federation_release_task", {"task_id": "t"})).data.released
        assert claim(house, "dan", "t").fencing_token == first.fencing_token + 1


async def test_task_for_one_agent_reaches_only_that_agent(house: Any) -> None:
    async with house.client("ada") as ada, house.client("eve") as eve, house.client("bob") as bob:
        arguments = {"description": "d", "agent": "eve", "task_id": "t", "conversation_id": "incident-7"}
        assert (await ada.call_tool("federation_delegate", arguments)).data.state == "assigned"
        assert (await eve.call_tool("federation_inbox")).data.messages
        assert not (await bob.call_tool("federation_inbox")).data.messages


async def test_stranger_sees_neither_task_nor_execution(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        arguments = {"description": "d", "agent": "eve", "task_id": "secret", "conversation_id": "incident-7"}
        task = (await ada.call_tool("federation_delegate", arguments)).data
        asked = (await ada.call_tool("federation_infer", {"prompt": "?", "wait_s": 0})).data
        assert asked.text is None
        assert (await ada.call_tool("federation_task_status", {"task_id": str(asked.execution_id)})).data.state == "recorded"
        for reference in ("secret", str(task.task_id), str(asked.execution_id)):
            for tool in ("federation_task_status", "federation_task_result"):
                with pytest.raises(ToolError, match=f"no task '{reference}'") as raised:
                    await bob.call_tool(tool, {"task_id": reference})
                assert "nearest: secret" not in str(raised.value)
        with pytest.raises(ToolError, match="Need to know"):
            await bob.call_tool("federation_summarize", {"conversation_id": "incident-7"})


async def test_slug_that_is_taken_is_refused_and_the_first_stays(house: Any) -> None:
    async with house.client("ada") as ada:
        await ada.call_tool("federation_delegate", {"description": "first", "task_id": "t"})
        with pytest.raises(ToolError, match="exists in conversation commons already"):
            await ada.call_tool("federation_delegate", {"description": "second", "task_id": "t"})
        assert (await ada.call_tool("federation_task_status", {"task_id": "t"})).data.description == "first"


async def test_late_answers_come_with_a_handle(house: Any) -> None:
    async with house.client("ada") as ada:
        for tool, arguments in (
            ("federation_infer", {"prompt": "?", "wait_s": 0.1}),
            ("federation_summarize", {"conversation_id": "commons", "wait_s": 0.1}),
        ):
            await ada.call_tool("federation_send", {"content": "something to summarise"})
            late = (await ada.call_tool(tool, arguments)).structured_content
            assert uuid.UUID(late["execution_id"])
            assert (late["state"], late["note"]) == ("recorded", "recorded; ActiveMQ has not taken it yet, and it will be sent as soon as it does")


async def test_run_of_the_indexer_is_looked_at_by_its_id(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        run = (await ada.call_tool("federation_index", {"path": "/srv/code"})).data
        assert (run.state, run.finished, run.path) == ("scan recorded", False, "/srv/code")
        again = (await ada.call_tool("federation_index", {"run_id": str(run.run_id)})).data
        assert again.run_id == run.run_id
        assert (await ada.call_tool("federation_task_status", {"task_id": str(run.run_id)})).data.state == "scan recorded"
        with pytest.raises(ToolError, match="no execution"):
            await bob.call_tool("federation_index", {"run_id": str(run.run_id)})
