"""An agent that has its tasks done by an agent of another system, over A2A: `a2a_bridge.py URL CAPABILITY CARD`.

It says that it can do CAPABILITY, claims each task for which that is asked, and hands it to the agent whose card is at CARD. The tokens come from
the environment, as FEDERATION_TOKEN, and ELSEWHERE for the other system.
"""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys
import uuid
from typing import Any

import httpx2
from fastmcp import Client

LOOK_S = 2.0
GOES_ON = {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}


class Elsewhere:
    """The agent of the other system, as its card says that it is reached."""

    def __init__(self, http: httpx2.AsyncClient, card: dict[str, Any]) -> None:
        spoken = [each for each in card["supportedInterfaces"] if (each["protocolBinding"], each["protocolVersion"]) == ("JSONRPC", "1.0")]
        self.http, self.url, self.name = http, spoken[0]["url"], card["name"]

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Make one request of A2A and return its result."""
        request = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": method, "params": params}
        answer = (await self.http.post(self.url, json=request, headers={"A2A-Version": "1.0"})).raise_for_status().json()
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    async def does(self, task_id: str, description: str) -> Any:
        """Have it do something, and return its task when that goes on no more."""
        # Named by our task, so that to ask again after a crash is to ask once.
        message = {"messageId": task_id, "role": "ROLE_USER", "parts": [{"text": description}]}
        task = (await self.ask("SendMessage", {"message": message, "configuration": {"returnImmediately": True}}))["task"]
        while task["status"]["state"] in GOES_ON:
            await asyncio.sleep(LOOK_S)
            task = await self.ask("GetTask", {"id": task["id"]})
        return task


async def pass_on(agent: Client[Any], elsewhere: Elsewhere, task_id: str, capability: str) -> None:
    """Have one task done elsewhere, if it asks for what that can do and is still to be had."""
    asked = (await agent.call_tool("federation_task_status", {"task_id": task_id})).structured_content or {}
    if asked["terms"].get("capability") != capability or asked["state"] != "pending":
        return
    claim = (await agent.call_tool("federation_claim_task", {"task_id": task_id, "ttl_s": 3600})).structured_content or {}
    if not claim["claimed"]:
        return
    done = await elsewhere.does(task_id, asked["description"])
    state = done["status"]["state"]
    result = {"by": elsewhere.name, "state": state, "artifacts": done.get("artifacts", [])}
    ended = {"task_id": task_id, "fencing_token": claim["fencing_token"], "result": result, "success": state == "TASK_STATE_COMPLETED"}
    await agent.call_tool("federation_complete_task", ended)
    print(f"{asked['description']}: {state}")


async def main(url: str, capability: str, card: str, tokens: dict[str, str]) -> None:
    """Pass on one task after the other, until somebody ends it."""
    mine = {"Authorization": f"Bearer {tokens['elsewhere']}"}
    async with Client(url, auth=tokens["federation"]) as agent, httpx2.AsyncClient(headers=mine, timeout=60) as http:
        elsewhere = Elsewhere(http, (await http.get(card)).raise_for_status().json())
        await agent.call_tool("federation_update_state", {"summary": f"Hands on to {elsewhere.name}", "capabilities": [capability]})
        after: dict[str, int] = {}
        while True:
            inbox = (await agent.call_tool("federation_inbox", {"wait_s": 60, **after})).structured_content or {}
            for message in inbox["messages"]:
                if task_id := (message["data"] or {}).get("task_id"):
                    await pass_on(agent, elsewhere, task_id, capability)
            after = {"after": inbox["cursor"]}


if __name__ == "__main__":
    given = {"federation": os.environ["FEDERATION_TOKEN"], "elsewhere": os.environ["ELSEWHERE"]}
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], given))
