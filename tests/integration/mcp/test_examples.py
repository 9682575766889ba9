"""Examples of the pages that want a worker, as their reader runs them."""

import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from federation.services import task_claims

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("patience")]
DOCS = Path(__file__).parents[3] / "docs"


async def test_lock_of_the_patterns_is_a_claim(spine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lock = runpy.run_path(str(DOCS / "examples" / "agent_lock.py"))
    async with spine.client("bob") as bob:
        theirs = lock["AgentLock"](bob, "file:/lock/main.py")
        assert await theirs.acquire()
        await lock["main"](f"{spine.url}/mcp", "file:/lock/main.py", spine.tokens["dan"])
        assert await theirs.release()
        assert not await theirs.release()
    await lock["main"](f"{spine.url}/mcp", "file:/lock/main.py", spine.tokens["dan"])
    assert capsys.readouterr().out.splitlines() == ["another agent is working on file:/lock/main.py", "changing file:/lock/main.py with token 2"]


@pytest.mark.parametrize("way", ["bus", "star", "ring", "tree"])
async def test_agents_work_together_in_each_of_the_four_ways(spine: Any, capsys: pytest.CaptureFixture[str], way: str) -> None:
    await runpy.run_path(str(DOCS / "examples" / "ways_to_work.py"))["main"](way, f"{spine.url}/mcp", spine.tokens)
    # The page shows what it prints.
    [shown] = re.findall(rf"# end of {way}.*?```text\n(.*?)```", (DOCS / "how-to" / "work-together.md").read_text(), re.S)[:1]
    assert capsys.readouterr().out == shown


async def test_task_goes_through_to_an_agent_of_another_system(spine: Any, house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = runpy.run_path(str(DOCS / "examples" / "a2a_bridge.py"))
    monkeypatch.setitem(bridge["Elsewhere"].does.__globals__, "LOOK_S", 0.05)
    card = f"{house.url}/.well-known/agent-card.json"
    tokens = {"federation": spine.tokens["dan"], "elsewhere": house.tokens["ada"]}
    async with asyncio.TaskGroup() as group, spine.client("ada") as ada, house.client("bob") as bob:
        passing = group.create_task(bridge["main"](f"{spine.url}/mcp", "translate", card, tokens))
        asked = (await ada.call_tool("federation_delegate", {"description": "Translate the manual", "capability": "translate"})).data
        found: list[Any] = []
        while not found:
            found = (await bob.call_tool("federation_inbox", {"wait_s": 60})).structured_content["messages"]
        # What another system does with it is that one's; here it is a federation too, in which bob takes it.
        there = found[0]["data"]["task_id"]
        assert "Translate the manual" in found[0]["content"]
        with house.transactions.begin("bob") as session:
            token = task_claims.claim(session, there, description="", ttl_s=60).fencing_token
        await bob.call_tool("federation_complete_task", {"task_id": there, "fencing_token": token, "result": {"pages": 12}})
        ended = (await ada.call_tool("federation_task_result", {"task_id": str(asked.task_id), "wait_s": 240})).structured_content
        passing.cancel()
    assert (ended["state"], ended["done_by"]) == ("completed", "dan")
    assert ended["result"]["artifacts"][0]["parts"][0]["data"] == {"pages": 12}
